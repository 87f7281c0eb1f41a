#!/usr/bin/env bash
# `device: CUDA` on a machine without a GPU: everything that needs none works, and all else is one sentence and exit
# code 2. usage: gpu_test.sh TOROID
set -euo pipefail
toroid=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ -e /proc/driver/nvidia ]; then
  echo "skipped: this machine has a driver of NVIDIA's"
  exit 77
fi

fail() {
  echo "FAIL: $*" >&2
  cat "$work/out" "$work/err" >&2
  exit 1
}
# ends CODE COMMAND...
ends() {
  local wanted=$1 code=0
  shift
  "$@" > "$work/out" 2> "$work/err" || code=$?
  if [ "$code" != "$wanted" ]; then fail "exit code $code in place of $wanted: $*"; fi
}
# One sentence that says `$1`.
says() {
  if [ "$(wc -l < "$work/err")" != 1 ]; then fail "more or less than a line on standard error"; fi
  grep -q "$1" "$work/err" || fail "no '$1'"
}

tiny=(--config configs/tiny_gemma.textproto --set device=CUDA)
ends 0 "$toroid" train "${tiny[@]}" --check
if "$toroid" --version | grep -q '^features .*CUDA'; then
  why='no NVIDIA driver'
  ends 0 "$toroid" train "${tiny[@]}" --dry-run
  grep -q 'with gaps, placed .* bytes)' "$work/out" || fail "a dry run does not say what the GPU's allocator comes to"
  ends 0 "$toroid" train --config configs/gemma_7b_h200x8.textproto --dry-run
  ends 0 "$toroid" simulate --config configs/gemma_2b_h200.textproto --chip h200
else
  why='this build has no CUDA'
  ends 2 "$toroid" train "${tiny[@]}" --dry-run
  says "$why"
fi
ends 2 "$toroid" bench step "${tiny[@]}" --steps 1
says "$why"
TOROID=$toroid ends 2 bench/gpu.sh "$work/report.json"
says "$why"
if [ -e "$work/report.json" ]; then fail "a report of nothing"; fi
echo "passed"
