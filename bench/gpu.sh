#!/usr/bin/env bash
# What holds on this machine's GPU, and how fast it is: first the proof, then the speed, in at most eight minutes. Prints
# one table with pass, MISS or open against each bar of docs/gpu.md, and writes it as JSON.
#
#   bench/gpu.sh [REPORT]      gpu_report.json if not given
#
# The tree is built already (cmake --preset release with CUDA's toolkit; no GPU is needed for that). TOROID_BENCH_VENV
# names a Python environment with torch (of CUDA) and transformers; without one the comparison stays open. Ends with 2
# where there is no GPU that can be used, with 1 where a bar is missed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

report=${1:-gpu_report.json}
build=${TOROID_BUILD:-build/release}
toroid=${TOROID:-$build/bin/toroid}
python=${TOROID_BENCH_VENV:+$TOROID_BENCH_VENV/bin/python}
limit=${TOROID_GPU_SECONDS:-480}
peak=${TOROID_GPU_PEAK:-989e12} # bf16 of an H100 or H200, dense, by NVIDIA's data sheet
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

left() { echo $((limit - SECONDS)); }

# The program says it better than a script: no GPU, no driver, a build without CUDA.
if ! "$toroid" bench step --config configs/tiny_gemma.textproto --set device=CUDA --steps 1 --json > "$work/first" 2> "$work/why"; then
  cat "$work/why" >&2
  exit 2
fi

rows=()
missed=0
# row NAME pass|MISS|open FOUND BAR
row() {
  rows+=("$1|$2|$3|$4")
  if [ "$2" = MISS ]; then missed=1; fi
  printf '%-44s %-5s %s (%s)\n' "$1" "$2" "$3" "$4"
}
# proof NAME SECONDS COMMAND...
proof() {
  local name=$1 seconds=$2
  shift 2
  if [ ! -x "$1" ]; then
    row "$name" open "$1 is not built" "passes"
  elif [ "$(left)" -lt "$seconds" ]; then
    row "$name" open "no time was left" "passes"
  elif timeout "$seconds" "$@" > "$work/log" 2>&1 && ! grep -q "no GPU is here" "$work/log"; then
    row "$name" pass "$(tail -1 "$work/log" | tr -d '|"\\')" "passes"
  else
    cp "$work/log" "$report.${name// /_}.log"
    row "$name" MISS "see $report.${name// /_}.log" "passes"
  fi
}
number() { sed -n "s/.*\"$1\": *\([0-9.e+-]*\).*/\1/p" "$2" | head -1; }
# bar NAME FOUND LEAST UNIT
bar() {
  if [ -z "$2" ]; then
    row "$1" open "not measured" "at least $3 $4"
  else
    row "$1" "$(awk -v a="$2" -v b="$3" 'BEGIN { print (a >= b) ? "pass" : "MISS" }')" "$(printf '%.3g %s' "$2" "$4")" "at least $3 $4"
  fi
}

echo "proof"
proof "real libraries link and start" 30 "$build/tests/cuda_link_test"
proof "contract of every kernel" 120 "$build/tests/contract_gpu_test"
proof "golden cases in fp32 and bf16" 120 "$build/tests/golden_gpu_test"
proof "certificate on 1x1" 90 "$toroid" certify --config configs/tiny_gemma.textproto --set device=CUDA --layouts 1x1 --steps 3
if command -v compute-sanitizer > /dev/null; then
  proof "sanitizer on our kernels" 120 "$(command -v compute-sanitizer)" --error-exitcode 1 "$toroid" bench step \
    --config configs/tiny_gemma.textproto --set device=CUDA --steps 1 --json
else
  row "sanitizer on our kernels" open "compute-sanitizer is not installed" "passes"
fi

echo "speed: Gemma 2B, 4 x 8192 tokens a step"
step=(--config configs/gemma_2b_h200.textproto --set batch.global_sequences=4 --steps 5 --json)
ours=() theirs=()
for round in 1 2; do
  if [ "$(left)" -lt 60 ]; then break; fi
  if timeout "$(left)" "$toroid" bench step "${step[@]}" > "$work/step.json" 2> "$work/log"; then
    ours+=("$(number tokens_per_s "$work/step.json")")
    flops=$(number model_flops "$work/step.json")
    median=$(number median_s "$work/step.json")
  else
    cp "$work/log" "$report.step.log"
    row "step $round" MISS "see $report.step.log" "runs"
  fi
  if [ -n "$python" ] && [ "$(left)" -gt 60 ]; then
    if timeout "$(left)" "$python" bench/peers/torch_gemma_gpu_step.py 4 8192 5 > "$work/torch.json" 2> "$work/log"; then
      theirs+=("$(number tokens_per_s "$work/torch.json")")
    else
      cp "$work/log" "$report.torch.log"
      row "peer $round" open "see $report.torch.log" "runs"
    fi
  fi
done
best() { printf '%s\n' "$@" | sort -g | tail -1; }
share="" ratio=""
if [ -n "${median:-}" ]; then share=$(awk -v f="$flops" -v s="$median" -v p="$peak" 'BEGIN { print 100 * f / s / p }'); fi
if [ ${#ours[@]} -gt 0 ] && [ ${#theirs[@]} -gt 0 ]; then
  ratio=$(awk -v a="$(best "${ours[@]}")" -v b="$(best "${theirs[@]}")" 'BEGIN { print a / b }')
fi
bar "MFU" "$share" 50 "%"
bar "rate beside torch.compile" "$ratio" 1.15 "x"
"$toroid" doctor --quick 2> /dev/null | sed -n '/^.* GPU/,/TB\/s/p' || true
row "memory-bound kernels" open "not timed by this script" "85 % of the copy rate"
row "products" open "not timed by this script" "90 % of cuBLASLt's best"
row "attention" open "not timed by this script" "at least PyTorch's SDPA"
row "host time to issue a step" open "not timed by this script" "below 2 % of it"

{
  printf '{"seconds": %d, "rows": [' "$SECONDS"
  for ((i = 0; i < ${#rows[@]}; ++i)); do
    IFS='|' read -r name verdict found wanted <<< "${rows[i]}"
    printf '%s{"name": "%s", "verdict": "%s", "found": "%s", "bar": "%s"}' "$([ "$i" = 0 ] || echo ', ')" "$name" "$verdict" \
      "$found" "$wanted"
  done
  printf ']}\n'
} > "$report"
echo "written to $report after $SECONDS s"
exit $missed
