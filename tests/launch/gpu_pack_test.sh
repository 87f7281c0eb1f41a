#!/usr/bin/env bash
# What bench/gpu_pack.sh packs runs elsewhere: with its own libraries, and without the folder that it was built in.
# usage: gpu_pack_test.sh BUILD
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
TOROID_BUILD=$1 bench/gpu_pack.sh "$work/pack.tar.xz"
tar -C "$work" -xf "$work/pack.tar.xz"
cd /
run=$work/toroid_gpu/run
"$run" build/release/bin/toroid --version > "$work/out"
grep -q CUDA "$work/out"
# Libraries come from the pack, and none is missing.
"$run" ldd build/release/bin/toroid > "$work/libraries"
if grep "not found" "$work/libraries"; then exit 1; fi
grep -q "libdnnl.* => $work/toroid_gpu/lib/" "$work/libraries"
"$run" build/release/bin/toroid train --dry-run --config configs/gemma_2b_h200.textproto > "$work/out"
grep -q "with gaps, placed" "$work/out"
"$run" build/release/tests/golden_gpu_test > "$work/out"
if [ -e /proc/driver/nvidia ]; then
  echo "passed, but for the machine without a GPU"
  exit 0
fi
code=0
"$run" 2> "$work/err" || code=$?
if [ "$code" != 2 ] || ! grep -q "no NVIDIA driver" "$work/err"; then
  cat "$work/err"
  exit 1
fi
# On a machine whose C library is older than what the programs were built with.
echo 99.1 > "$work/toroid_gpu/glibc"
code=0
"$run" build/release/bin/toroid --version > "$work/out" 2>&1 || code=$?
if [ "$code" != 2 ] || ! grep -q "^these programs want glibc 99.1 or newer, and this machine has 2\." "$work/out"; then
  cat "$work/out"
  exit 1
fi
echo "passed"
