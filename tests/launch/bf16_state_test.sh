#!/bin/bash
# bf16_state_test.sh PROGRAM: moments and average in bf16. Neither the layout nor an interruption changes a bit of them, and a
# run goes on from fp32 state and back.
TOROID=$1
here=$(dirname "$0")
. "$here/tiny_run.sh"
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
log=$directory/log

tiny_run "$directory" 12
cd "$directory" || exit 1
same="--config run.textproto --set train.deterministic=true --set train.checkpoint.every=6 --set optim.ema.decay=0.9
  --set train.validate.every=12 --set optim.schedule.constant.peak=3e-3"
bf16="--set optim.adamw.moments=BF16 --set optim.ema.precision=BF16"
one="--set mesh.torus=[1,1] --set mesh.data=1"

expect 0 train $same $bf16 $one --out one
expect 0 launch $same $bf16 --out two
expect 0 launch $same $bf16 --set mesh.data=1 --set mesh.model=2 --out model
expect 0 checkpoint diff one two --tensors
expect 0 checkpoint diff one model --tensors
# A run that was interrupted, and goes on under another layout.
expect 0 launch $same $bf16 --resume two/checkpoints/step-6 $one --out again
expect 0 checkpoint diff again one --tensors
expect 0 checkpoint show one model.norm.weight
for part in exp_avg exp_avg_sq ema; do says "model.norm.weight ($part) BF16 \[32\]"; done
says 'model.norm.weight (master) F32 \[32\]'

# Against fp32: other weights, as good a loss.
expect 0 train $same $one --out exact
expect 4 checkpoint diff one exact --tensors --part master
loss() { sed -n 's/.*"validation_loss":\([0-9.]*\).*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
awk -v a="$(loss one)" -v b="$(loss exact)" 'BEGIN {
  print "validation loss after 12 steps: bf16 state " a ", fp32 state " b
  d = a - b; exit !(a > 0 && b > 0 && d < 0.02 && d > -0.02) }' || fail "the losses are apart"

# From fp32 state to bf16 and back, asked for.
expect 2 train $same $bf16 $one --resume exact/checkpoints/step-6 --out narrowed
says 'optim.adamw.moments was FP32 and is BF16'
expect 0 train $same $bf16 $one --resume exact/checkpoints/step-6 --out narrowed --allow-changes
says 'exp_avg is F32 in the checkpoint and is kept as BF16 from here on, rounded to nearest'
expect 0 train $same $one --resume one/checkpoints/step-6 --out widened --allow-changes
says 'exp_avg_sq is BF16 in the checkpoint and is kept as F32 from here on'
expect 0 checkpoint show widened model.norm.weight
says 'model.norm.weight (exp_avg) F32'

expect 0 export --checkpoint one --ema --out exported
expect 0 generate --checkpoint one --prompt ka --tokens 2
echo passed
