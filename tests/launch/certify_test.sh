#!/bin/sh
# certify_test.sh PROGRAM CONFIGS: the certificate of all default layouts over MPI, for Gemma with one key/value head and
# with two, Gemma 2 and Gemma 3 at the size of a unit test, in bf16; and for Muon, whose matrices have owners.
program=$1
configs=$2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# certified CONFIG [OVERRIDE]
certified() {
  "$program" certify --config "$configs/$1" --set train.precision=BF16 ${2:+--set "$2"} >"$log" 2>&1
  code=$?
  bits=$(grep -c 'pass  bit-equal' "$log")
  work=$(grep -c 'equal to what .* recorded' "$log")
  fast=$(grep -c 'pass  deviates by' "$log")
  if [ "$code $bits $work $fast" = "0 12 12 11" ] && grep -q '^certified$' "$log"; then return; fi
  echo "$1 $2: exit code $code, $bits layouts bit-equal, $work with the formula's work, $fast within the bound" >&2
  cat "$log" >&2
  failed=1
}

certified tiny_gemma.textproto
certified tiny_gemma.textproto model.kv_heads=2
certified tiny_gemma2.textproto
certified tiny_gemma3.textproto
certified tiny_gemma.textproto "optim.muon={}"
exit $failed
