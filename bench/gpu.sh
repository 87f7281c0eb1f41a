#!/usr/bin/env bash
# What holds on this machine's GPU, and how fast it is: first the proof, then the speed, then sanitizers, in at most eight
# minutes. Prints one table with pass, MISS or open against each bar of docs/gpu.md, and writes it as JSON.
#
#   bench/gpu.sh [REPORT]      gpu_report.json if not given
#
# The tree is built already (cmake --preset release with CUDA's toolkit; no GPU is needed for that). TOROID_BENCH_VENV
# names a Python environment with torch (of CUDA) and transformers; without one the comparisons stay open. Ends with 2
# where there is no GPU that can be used, with 1 where a bar is missed.
#
# TOROID_GPU_STAND_IN=1 is a dry run of this script, with TOROID a program that is linked with the stand-ins: it proves
# that every row is filled, and its figures say nothing of a GPU, so that no bar is held against them.
# TOROID_GPU_CONFIG, TOROID_GPU_BATCH (sequences a step), TOROID_GPU_AT_ONCE (in a microbatch), TOROID_GPU_TOKENS (in
# a sequence) and TOROID_GPU_CACHES make it small. Other settings: TOROID_BUILD, TOROID_GPU_SECONDS, TOROID_GPU_PEAK.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."

report=${1:-gpu_report.json}
build=${TOROID_BUILD:-build/release}
toroid=${TOROID:-$build/bin/toroid}
python=${TOROID_BENCH_VENV:+$TOROID_BENCH_VENV/bin/python}
if [ -n "$python" ] && [ ! -x "$python" ]; then python=${python}3; fi
limit=${TOROID_GPU_SECONDS:-480}
peak=${TOROID_GPU_PEAK:-} # FLOP/s in bf16, for a GPU of which the program knows none
stand_in=${TOROID_GPU_STAND_IN:-}
config=${TOROID_GPU_CONFIG:-configs/gemma_2b_h200.textproto}
batch=${TOROID_GPU_BATCH:-4}
at_once=${TOROID_GPU_AT_ONCE:-2}
tokens=${TOROID_GPU_TOKENS:-8192}
caches=${TOROID_GPU_CACHES:-120} # MB that a kernel moves at least to be held against the copy rate
speed_takes=220 # seconds that the proof leaves for the speed
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

left() { echo $((limit - SECONDS)); }
# ran_out CODE: whether it is timeout's; 137 where TERM was not enough.
ran_out() { [ "$1" = 124 ] || [ "$1" = 137 ]; }

# The program says it better than a script: no GPU, no driver, a build without CUDA.
code=0
timeout 60 "$toroid" bench step --config configs/tiny_gemma.textproto --set device=CUDA --steps 1 --json > "$work/first" 2> "$work/why" ||
  code=$?
if [ "$code" != 0 ]; then
  cat "$work/why" >&2
  if [ "$code" = 2 ]; then exit 2; fi
  echo "a step of tiny_gemma does not run: exit code $code (124: not within a minute)" >&2
  exit 1
fi

rows=()
missed=0
# row NAME pass|MISS|open|stand-in FOUND BAR
row() {
  rows+=("$1|$2|$3|$4")
  if [ "$2" = MISS ]; then missed=1; fi
  printf '%-44s %-8s %s (%s)\n' "$1" "$2" "$3" "$4"
}
# keep NAME: the log of what failed, beside the report.
keep() {
  local file=$report.${1// /_}.log
  cp "$work/log" "$file"
  echo "see $file"
}
# proof NAME SECONDS RESERVED COMMAND...: so many seconds at most, while RESERVED are left for what comes after.
proof() {
  local name=$1 seconds=$2 room=$(($(left) - $3)) code=0
  shift 3
  if [ "$room" -lt "$seconds" ]; then seconds=$room; fi
  if [ ! -x "$1" ]; then
    row "$name" open "$1 is not built" "passes"
  elif [ "$seconds" -lt 10 ]; then
    row "$name" open "no time was left" "passes"
  else
    timeout -k 5 "$seconds" "$@" > "$work/log" 2>&1 || code=$?
    if ran_out "$code"; then
      row "$name" open "not done within $seconds s; $(keep "$name")" "passes"
    elif [ "$code" != 0 ] || grep -q "no GPU is here" "$work/log"; then
      row "$name" MISS "$(keep "$name")" "passes"
    else
      row "$name" pass "$({ grep 'PASSED' "$work/log" || tail -1 "$work/log"; } | tail -1 | tr -d '|"\\')" "passes"
    fi
  fi
}
# number FILE KEY, text FILE KEY: of a file of JSON, the first of that name; nothing where it is null or there is none.
number() { { grep -o "\"$2\": *[0-9.e+-]*" "$1" 2> /dev/null || true; } | sed -n '1s/.*: *//p'; }
text() { { grep -o "\"$2\": *\"[^\"]*\"" "$1" 2> /dev/null || true; } | sed -n '1s/.*: *"\(.*\)"/\1/p'; }
ratio() { if [ -n "$1" ] && [ -n "$2" ]; then awk -v a="$1" -v b="$2" 'BEGIN { if (b > 0) print a / b }'; fi; }
percent() { if [ -n "$1" ]; then awk -v a="$1" 'BEGIN { print 100 * a }'; fi; }
# bar NAME FOUND least|most BAR UNIT [OF WHAT]
bar() {
  local verdict=stand-in wanted="at $3 $4 $5"
  if [ -z "$2" ]; then
    row "$1" open "not measured" "$wanted"
    return
  fi
  if [ -z "$stand_in" ]; then
    verdict=$(awk -v a="$2" -v b="$4" -v how="$3" 'BEGIN { print (how == "least" ? a >= b : a <= b) ? "pass" : "MISS" }')
  fi
  row "$1" "$verdict" "$(printf '%.3g %s' "$2" "$5")${6:+, $6}" "$wanted"
}

# part NAME SECONDS OUTPUT COMMAND...: 0 where it ran; else a row says why there is nothing. What a peer cannot do is no
# bar of ours.
part() {
  local name=$1 seconds=$2 output=$3 verdict=MISS code=0
  if [[ $name = peer* ]]; then verdict=open; fi
  shift 3
  if [ "$(left)" -lt "$seconds" ]; then
    row "$name" open "no time was left" "runs"
    return 1
  fi
  # What an earlier round wrote stays where this one fails.
  timeout -k 5 "$(left)" "$@" > "$output.new" 2> "$work/log" || code=$?
  if [ "$code" = 0 ]; then
    mv "$output.new" "$output"
    return 0
  fi
  if ran_out "$code"; then
    row "$name" open "no time was left; $(keep "$name")" "runs"
  else
    row "$name" $verdict "$(keep "$name")" "runs"
  fi
  return 1
}

echo "proof"
if [ -z "$stand_in" ]; then
  proof "real libraries link and start" 30 $speed_takes "$build/tests/cuda_link_test"
  # A GPU's bits against the host's (tests/core/device/cuda/kernel_hashes.list).
  proof "hashes of exact kernels" 60 $speed_takes "$build/tests/contract_gpu_test" --gtest_filter='*KernelHashes*'
  proof "contract of every kernel" 120 $speed_takes "$build/tests/contract_gpu_test" --gtest_filter='-*KernelHashes*'
  proof "golden cases in fp32 and bf16" 120 $speed_takes "$build/tests/golden_gpu_test"
else
  row "real libraries link and start" stand-in "skipped: cuda_link_test needs none" "passes"
  row "hashes of exact kernels" stand-in "skipped: cuda_contract_test has them of the stand-in" "passes"
  row "contract of every kernel" stand-in "skipped: cuda_contract_test is the same on the stand-in" "passes"
  row "golden cases in fp32 and bf16" stand-in "skipped: golden_cuda_test is the same on the stand-in" "passes"
fi
# Twice, since the first of the layouts is what the others are held against.
proof "certificate on 1x1" 90 $speed_takes "$toroid" certify --config configs/tiny_gemma.textproto --set device=CUDA \
  --layouts '1x1; 1x1' --steps 3

echo "speed: $config, $batch x $tokens tokens a step, $at_once at a time"
setting=(--config "$config" --set device=CUDA --set batch.global_sequences="$batch" --set batch.sequences_per_replica="$at_once"
  --set batch.tokens_per_sequence="$tokens" --json)
ours=() theirs=()
our_step() {
  if part "step $1" 30 "$work/step.json" "$toroid" bench step "${setting[@]}" --steps 5; then
    ours+=("$(number "$work/step.json" tokens_per_s)")
  fi
}
their_step() {
  if [ -z "$python" ]; then return; fi
  if part "peer $1" 60 "$work/peer.json" "${peer[@]}" bench/peers/torch_gemma_gpu_step.py "$batch" "$tokens" 5; then
    theirs+=("$(number "$work/peer.json" tokens_per_s)")
  fi
}
# With its own libraries, where gpu_pack.sh's are beside ours.
peer=(env "LD_LIBRARY_PATH=${TOROID_BENCH_LIBRARIES-${LD_LIBRARY_PATH:-}}" "$python")
best() { printf '%s\n' "$@" | sort -g | tail -1; }

our_step 1
part "kernels" 30 "$work/kernels.json" "$toroid" bench kernels "${setting[@]}" --beyond-caches "$caches" || true
if [ -n "$python" ]; then part "peer sdpa" 20 "$work/sdpa.json" "${peer[@]}" bench/peers/torch_sdpa.py "$at_once" "$tokens" || true; fi
their_step 1
our_step 2
their_step 2

step=$work/step.json kernels=$work/kernels.json sdpa=$work/sdpa.json
share=$(number "$step" mfu)
if [ -n "$peak" ] && [ -s "$step" ] && [ -z "$(number "$step" peak_flops_per_s)" ]; then
  share=$(awk -v f="$(number "$step" model_flops)" -v s="$(number "$step" median_s)" -v p="$peak" 'BEGIN { print f / s / p }')
fi
bar "MFU" "$(percent "$share")" least 50 "%"
beside=""
if [ ${#ours[@]} -gt 0 ] && [ ${#theirs[@]} -gt 0 ]; then beside=$(ratio "$(best "${ours[@]}")" "$(best "${theirs[@]}")"); fi
bar "rate beside torch.compile" "$beside" least 1.15 "x"
bar "host time to issue a step" "$(percent "$(ratio "$(number "$step" issue_s)" "$(number "$step" median_s)")")" most 2 "%"

# Each operator that memory bounds, by the least share of its shapes.
shares() {
  if [ ! -s "$kernels" ]; then return; fi
  tr '{' '\n' < "$kernels" | sed -n 's/.*"class":"memory","op":"\([^"]*\)".*"share":\([0-9.e+-]*\),"judged":true.*/\2 \1/p' |
    sort -g | awk '{ share = $1; $1 = ""; if (!seen[$0]++) print share $0 }'
}
bar "memory-bound kernels, worst" "$(percent "$(number "$kernels" worst_memory_share)")" least 85 "% of the copy rate" \
  "$(text "$kernels" worst_memory)"
while read -r value name; do
  bar "  $name" "$(percent "$value")" least 85 "% of the copy rate"
done < <(shares)
bar "products, worst" "$(percent "$(number "$kernels" worst_product_share)")" least 90 "% of cuBLASLt's best" \
  "$(text "$kernels" worst_product)"
remark=$(text "$kernels" remark)
if [ -n "$remark" ]; then echo "  $remark"; fi
for pass in forward backward; do
  bar "attention, $pass" "$(ratio "$(number "$sdpa" ${pass}_s)" "$(number "$kernels" attention_${pass}_s)")" least 1 \
    "x PyTorch's SDPA"
done

echo "sanitizers"
# What each of our kernels reads and writes, and whether its threads meet where they have to; products are the library's.
sanitizer=$(command -v compute-sanitizer || true)
if [ -n "$sanitizer" ] && [ -z "$stand_in" ]; then
  for tool in memcheck racecheck; do
    proof "compute-sanitizer $tool" 90 5 "$sanitizer" --tool "$tool" --error-exitcode 1 "$build/tests/contract_gpu_test" \
      --gtest_filter="${TOROID_GPU_SANITIZED:-*KernelContract*-*matmul*:*symmetric*:*/cudnn}"
  done
else
  why="compute-sanitizer is not installed"
  if [ -n "$stand_in" ]; then why="skipped: it wants a GPU"; fi
  for tool in memcheck racecheck; do
    row "compute-sanitizer $tool" "$([ -n "$stand_in" ] && echo stand-in || echo open)" "$why" "passes"
  done
fi

file() { if [ -s "$1" ]; then cat "$1"; else echo null; fi; }
{
  printf '{"seconds": %d, "rows": [' "$SECONDS"
  for ((i = 0; i < ${#rows[@]}; ++i)); do
    IFS='|' read -r name verdict found wanted <<< "${rows[i]}"
    printf '%s{"name": "%s", "verdict": "%s", "found": "%s", "bar": "%s"}' "$([ "$i" = 0 ] || echo ', ')" "$name" "$verdict" \
      "$found" "$wanted"
  done
  printf '],\n"step": %s,\n"peer": %s,\n"sdpa": %s,\n"kernels": %s}\n' "$(file "$step")" "$(file "$work/peer.json")" \
    "$(file "$sdpa")" "$(file "$kernels")"
} > "$report"
echo "written to $report after $SECONDS s"
exit $missed
