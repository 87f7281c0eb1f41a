#!/usr/bin/env bash
# `device: CUDA` on a machine without a GPU: everything that needs none works, and all else is one sentence and exit
# code 2. Then a dry run of bench/gpu.sh. usage: gpu_test.sh TOROID TOROID_WITH_STAND_INS
set -euo pipefail
toroid=$1 stand_in=$2
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
else
  why='this build has no CUDA'
fi
# What a step takes is known in either.
ends 0 "$toroid" train "${tiny[@]}" --dry-run
grep -q 'with gaps, placed .* bytes)' "$work/out" || fail "a dry run does not say what the GPU's allocator comes to"
ends 0 "$toroid" train --config configs/gemma_7b_h200x8.textproto --dry-run
ends 0 "$toroid" simulate --config configs/gemma_2b_h200.textproto --chip h200
ends 2 "$toroid" bench step "${tiny[@]}" --steps 1
says "$why"
TOROID=$toroid ends 2 bench/gpu.sh "$work/report.json"
says "$why"
if [ -e "$work/report.json" ]; then fail "a report of nothing"; fi

# One rank after another needs no mpirun: neither does the certificate of one GPU.
mkdir -p "$work/bin"
ln -s "$(command -v env)" "$work/bin/env"
ends 0 env PATH="$work/bin" "$stand_in" certify "${tiny[@]}" --layouts '1x1; 1x1' --steps 1
grep -c 'bit-equal' "$work/out" | grep -q '^2$' || fail "not two runs with the same bits"
ends 3 env PATH="$work/bin" "$stand_in" certify "${tiny[@]}" --layouts '1x1; 1x2' --steps 1

# The whole script on the stand-ins, with a stub for PyTorch: each row has its figure, and none is held against a bar.
mkdir -p "$work/venv/bin"
cat > "$work/venv/bin/python" << 'END'
#!/usr/bin/env bash
case $1 in
  *torch_sdpa.py) echo '{"forward_s": 0.001, "backward_s": 0.002}' ;;
  *) echo '{"median_s": 1.0, "tokens_per_s": 1000}' ;;
esac
END
chmod +x "$work/venv/bin/python"
dry=(TOROID_GPU_STAND_IN=1 TOROID="$stand_in" TOROID_BENCH_VENV="$work/venv" TOROID_GPU_CONFIG=configs/tiny_gemma.textproto
  TOROID_GPU_BATCH=2 TOROID_GPU_AT_ONCE=1 TOROID_GPU_TOKENS=32 TOROID_GPU_CACHES=0.01 TOROID_STAND_IN_GPUS=1
  TOROID_GPU_PEAK=1e12
  OMP_NUM_THREADS=1)
ends 0 env "${dry[@]}" bench/gpu.sh "$work/report.json"
for name in "hashes of exact kernels" "certificate on 1x1" MFU "rate beside torch.compile" "host time to issue a step" "memory-bound kernels, worst" "  rms_norm_grad" \
  "products, worst" "attention, forward" "attention, backward" "compute-sanitizer racecheck"; do
  grep -q "^$name  *\(stand-in\|pass\)" "$work/out" || fail "no figure of '$name'"
done
if grep -q ' \(MISS\|open\) ' "$work/out"; then fail "a bar is held against a stand-in, or a row is open"; fi
# Without time nothing is measured, and nothing missed.
ends 0 env "${dry[@]}" TOROID_GPU_SECONDS=1 bench/gpu.sh "$work/none.json"
if grep -q ' MISS ' "$work/out"; then fail "what was not measured is missed"; fi
grep -q '^step 1  *open  *no time was left' "$work/out" || fail "nothing says that no time was left"
if command -v python3 > /dev/null; then
  python3 - "$work/report.json" << 'END' || fail "the report is not what it should be"
import json, sys
report = json.load(open(sys.argv[1]))
assert all(row["found"] for row in report["rows"]), report["rows"]
assert {kernel["class"] for kernel in report["kernels"]["kernels"]} == {"memory", "product", "attention", "fused"}
assert report["step"]["issue_s"] > 0 and report["sdpa"]["forward_s"] == 0.001
END
fi
# What breaks is a row, and the rest goes on.
ends 0 env "${dry[@]}" TOROID_BENCH_VENV="$work/nowhere" bench/gpu.sh "$work/report.json"
grep -q '^peer sdpa  *open' "$work/out" || fail "a peer that does not start is not told"
grep -q '^products, worst  *stand-in' "$work/out" || fail "a peer that does not start ends the rest"
echo "passed"
