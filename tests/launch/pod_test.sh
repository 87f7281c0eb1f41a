#!/bin/sh
# pod_test.sh PROGRAM CONFIGS: 256 ranks on this machine, as a 16 x 16 torus, and 128 as two pods of 8 x 8, give the
# losses and weights of one rank. 77: the machine has too little memory for that many processes.
program=$1
configs=$2
available=$(awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo)
if [ "$available" -lt 6000 ]; then
  echo "256 ranks want 6000 MiB of memory; $available are available" >&2
  exit 77
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"$program" certify --config "$configs/tiny_gemma.textproto" --set train.deadline_s=300 --steps 3 \
  --layouts "1x1; 16x16; pods 2 of 8x8" >"$log" 2>&1
code=$?
bits=$(grep -c 'pass  bit-equal' "$log")
work=$(grep -c 'equal to what .* recorded' "$log")
[ "$code $bits $work" = "0 3 3" ] && grep -q '^certified$' "$log" && exit 0
echo "exit code $code, $bits layouts bit-equal, $work with the formula's work" >&2
cat "$log" >&2
exit 1
