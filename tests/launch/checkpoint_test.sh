#!/bin/bash
# checkpoint_test.sh PROGRAM: the verbs about checkpoints on a run of two ranks, as users type them.
TOROID=$1
here=$(dirname "$0")
. "$here/tiny_run.sh"
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
log=$directory/log

# JSON without blanks, and whether it matches; how often it holds a text.
json() { tr -d ' \n' <"$log" | grep -qE -- "$1" || fail "JSON does not match $1: $(cat "$log")"; }
times() { [ "$(tr -d ' \n' <"$log" | grep -oE -- "$2" | wc -l)" -eq "$1" ] || fail "not $1 times $2: $(cat "$log")"; }
# damage FILE OFFSET-FROM-END
damage() { printf '\x5a' | dd of="$1" bs=1 seek=$(($(stat -c %s "$1") - $2)) conv=notrunc status=none; }

tiny_run "$directory" 8
cd "$directory" || exit 1
"$TOROID" launch --config run.textproto --set train.checkpoint.every=2 --set train.checkpoint.keep=10 \
  --set train.validate.every=4 --set train.deterministic=true --set optim.ema.decay=0.9 --out run >"$log" 2>&1 || fail "training: $(cat "$log")"

expect 0 checkpoint ls run
says '^run: 4 checkpoints, '
[ "$(grep -c ' whole ' "$log")" -eq 4 ] || fail "not four whole checkpoints: $(cat "$log")"
expect 0 checkpoint ls run --json
times 4 '"step":[0-9]+,"directory"'
json '"step":2,"directory".*"step":4,"directory".*"step":6,"directory".*"step":8,"directory"'
# What it came from: nothing, and then each time the seal of the step before.
json '^[^]]*"step":2,"directory"[^{}]*"parent":null'
json '"seal":"([0-9a-f]{32})"[^{}]*"parent":\{[^}]*\}.*"step":8,"directory"[^{}]*"parent":\{"step":6,"seal":"\1"\}'
times 2 '"validation_loss":null'
json '"validation_loss":null.*"validation_loss":[0-9].*"validation_loss":null.*"validation_loss":[0-9]'
times 4 '"world_size":2,"files":8,'
expect 0 checkpoint verify run
says '^4 of 4 checkpoints whole'
expect 0 checkpoint verify run/checkpoints/step-4 --json
json '"whole":true.*"bytes_read":[0-9]{6,}'

expect 0 checkpoint show run 'model.layers.*.q_proj.weight' --part ema --stats --values 2 --json
json '"step":8,'
times 2 '"name":"model[^"]*q_proj.weight"'
times 2 '"not_finite":0'
times 2 '"values":\[[^],]*,[^],]*\]'
elements=$(tr -d ' \n' <"$log" | grep -oE '"slices":\[[^]]*\]' | head -n 1 | grep -oE '"elements":[0-9]+' | cut -d: -f2 | paste -sd+)
[ "$((elements))" -eq $((64 * 32)) ] || fail "the slices hold $elements elements: $(cat "$log")"
expect 0 checkpoint show run
says 'next sequence 32, skipped none'
expect 2 checkpoint show run --part master_
says 'did you mean master?'

expect 4 checkpoint diff run/checkpoints/step-6 run/checkpoints/step-8 --json
json '"equal":false'
json '"tensors_that_differ":80\b'
expect 0 checkpoint diff run run --read
expect 4 checkpoint diff run/checkpoints/step-2 run --part master
says 'model.norm.weight (master): 32 of 32 elements differ, most by '
says 'scalars.updates: 2 | 8'

# Another layout has the same hashes, and goes on to the same weights.
expect 0 checkpoint convert run --ranks 4 --out four
expect 0 checkpoint verify four
says ' files of 4 ranks, 80 tensors'
expect 0 checkpoint diff run four --read
expect 2 checkpoint convert run --ranks 4 --out four
says 'is there already and not empty'
one="--set mesh.torus=[1,1] --set mesh.data=1 --set train.steps=10"
for from in run four; do expect 0 train --resume $from $one --out "on-$from"; done
expect 0 checkpoint diff on-run on-four
# As a save on two ranks cuts it.
expect 0 checkpoint convert four --ranks 2 --out two
for part in master exp_avg ema; do
  cmp run/checkpoints/step-8/$part-00001-of-00002.safetensors two/checkpoints/step-8/$part-00001-of-00002.safetensors ||
    fail "$part is cut otherwise than the run cut it"
done
expect 0 checkpoint convert run --safetensors --part ema --dtype bf16 --out plain
# Eight bytes of length, then the header: metadata and 20 tensors, all whole.
length=$(od -An -t u8 -N 8 plain/model.safetensors | tr -d ' ')
dd if=plain/model.safetensors bs=1 skip=8 count="$length" status=none >"$log"
json '"model.norm.weight":\{"dtype":"BF16","shape":\[32\],'
times 20 '"dtype":"BF16"'
times 0 '@[0-9]'

# Damage of three kinds in three steps, all of it named at once.
cp -r run bad
damage bad/checkpoints/step-2/exp_avg-00001-of-00002.safetensors 7
truncate -s -1 bad/checkpoints/step-4/master-00000-of-00002.safetensors
rm bad/checkpoints/step-6/manifest.json
expect 2 checkpoint verify bad
says 'exp_avg-00001-of-00002.safetensors (written by rank 1), bytes 0 to [0-9]*, is damaged: .*: model.layers.1.[a-z_.]* (exp_avg) elements '
says 'master-00000-of-00002.safetensors (written by rank 0), bytes [0-9]* to [0-9]*, is cut off: .*(master) elements'
says 'manifest.json is missing'
says '^1 of 4 checkpoints whole'
expect 0 checkpoint ls bad
says '^ *2  whole '    # by its lengths
says '^ *4  damaged '
expect 0 checkpoint ls bad --verify
says '^ *2  damaged '
expect 2 checkpoint prune bad --keep 1 --every 2
says 'nothing was removed, since step-'
[ "$(ls bad/checkpoints | wc -l)" -eq 4 ] || fail "prune has removed something"

expect 0 checkpoint prune run --keep 1 --best 2 --dry-run
says 'would be removed: 2, 6 '    # 4 and 8 alone were validated
expect 0 checkpoint prune run --keep 1 --every 4 --dry-run
says 'would be removed: 2, 6 '
expect 0 checkpoint prune run --keep 1 --every 4
says 'removed: 2, 6 ('
[ "$(ls run/checkpoints | tr '\n' ' ')" = "step-4 step-8 " ] || fail "left: $(ls run/checkpoints)"
[ ! -e run/.lock ] || fail "the lock is left behind"
expect 2 checkpoint ls nowhere
says 'there are no checkpoints under'

# A run that is being trained is not touched.
"$TOROID" train --resume run $one --set train.steps=1000000 >job 2>&1 &
job=$!
for i in $(seq 300); do [ -e run/.lock ] && break; sleep 0.1; done
expect 2 checkpoint prune run --keep 1
says 'is in use by process'
kill $job
wait $job
[ $? -eq 75 ] || fail "the job was not stopped by its signal: $(cat job)"
echo passed
