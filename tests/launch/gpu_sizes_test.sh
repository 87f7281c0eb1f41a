#!/bin/bash
# gpu_sizes_test.sh WITHOUT_CUDA PROGRAM...: what the program says of a step on GPUs is the same, byte for byte, of builds
# with CUDA and without; and without it nothing runs on one.
set -u
without=$1
shift
# shellcheck source=tests/launch/tiny_run.sh
source "$(dirname "${BASH_SOURCE[0]}")/tiny_run.sh"
TOROID=$without
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export XDG_CACHE_HOME="$work/cache"
export CUDA_VISIBLE_DEVICES=  # a GPU that is here would have its own kernels predicted

# same ARGUMENT...: of all programs.
same() {
  local program
  "$without" "$@" >"$work/expected" 2>&1 || fail "$*: $(cat "$work/expected")"
  grep -q "$told" "$work/expected" || fail "$*: nothing says '$told': $(cat "$work/expected")"
  for program in "${programs[@]}"; do
    "$program" "$@" >"$work/out" 2>&1 || fail "$program $*: $(cat "$work/out")"
    diff "$work/expected" "$work/out" >&2 || fail "$program says otherwise: $*"
  done
}
# refused ARGUMENT...: with one sentence.
log=$work/out
refused() {
  expect 2 "$@"
  says '^toroid: device is CUDA, and this build has no CUDA; '
  [ "$(wc -l <"$log")" -eq 1 ] || fail "$*: more than a line: $(cat "$log")"
}

programs=("$@")
# The recipes.
told='with gaps, placed .* bytes)'
same train --dry-run --config configs/gemma_2b_h200.textproto
same train --dry-run --config configs/gemma_7b_h200x8.textproto
# Every kind of call that has a workspace, in both precisions, alone and on each axis.
for model in tiny_gemma tiny_gemma2 tiny_gemma3; do
  tiny=(train --dry-run --config "configs/$model.textproto" --set device=CUDA)
  for precision in FP32 BF16; do
    same "${tiny[@]}" --set train.precision=$precision --set train.remat=NONE
    same "${tiny[@]}" --set train.precision=$precision --set train.remat=FULL --set train.deterministic=true
  done
done
same "${tiny[@]}" --set 'mesh.torus=[2,2]' --set mesh.data=2 --set mesh.model=2 --set zero.stage=3
same "${tiny[@]}" --set 'optim.muon={}'
told='step'
same simulate --config configs/gemma_2b_h200.textproto --chip h200
same simulate --config configs/gemma_7b_h200x8.textproto --chip h100

tiny_run "$work" 4
run=(--config "$work/run.textproto" --set device=CUDA --set 'mesh.torus=[1,1]' --set mesh.data=1)
refused train "${run[@]}" --out "$work/run"
refused bench step "${run[@]}" --steps 1
[ ! -e "$work/run" ] || fail "something was written"
echo "passed"
