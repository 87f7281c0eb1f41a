#!/bin/sh
# ranks_test.sh PROGRAM: a tiny run on 4 ranks as a 2x2 torus, as a user starts it. It saves, goes on with 1, 2 and 2
# model ranks to the same losses, saves on a signal, and refuses what does not fit with one sentence and exit code 2. A
# step of it is timed, and its trace has all ranks.
program=$1
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
failed=0
mkdir -p "$directory/corpus/text"
for i in $(seq 40); do
  for j in $(seq 30); do echo "Document $i counts $((i * j)) and says word$(((i * 7 + j * 3) % 50))."; done \
    >"$directory/corpus/text/$i.txt"
done
cat >"$directory/run.textproto" <<END
model { d_model: 32 layers: 2 heads: 4 kv_heads: 2 head_dim: 8 ffn: 48 vocab: 640 }
mesh { torus: [2, 2] data: 4 }
batch { tokens_per_sequence: 32 global_sequences: 8 sequences_per_replica: 1 }
optim { schedule { cosine { peak: 1e-2 warmup: 2 } } }
train { steps: 6 seed: 3 threads: 1 deterministic: true checkpoint { every: 3 keep: 8 } }
data { directory: "$directory/data" corpus: "$directory/corpus" tokenizer { train { vocab: 640 } }
       source { name: "text" path: "text" format: TEXT } }
END

complain() {
  echo "$1" >&2
  [ -f "$directory/log" ] && cat "$directory/log" >&2
  failed=1
}

# expect CODE ARGUMENT...: the program ends with CODE.
expect() {
  code=$1
  shift
  timeout 120 "$program" "$@" >"$directory/log" 2>&1
  got=$?
  [ $got -eq "$code" ] || complain "$*: exit code $got instead of $code"
}

says() {
  grep -q -- "$1" "$directory/log" || complain "nothing says: $1"
}

losses() {
  grep -o '"step":[0-9]*,"loss":[^,]*' "$1/metrics.jsonl"
}

config="--config $directory/run.textproto"
expect 0 prepare $config
expect 0 launch $config --out "$directory/four" --trace "$directory/trace.json"
rows=$(grep -c '"thread_name"' "$directory/trace.json")
[ "$rows" -eq 20 ] || complain "the trace has $rows rows, not 5 for each of 4 ranks"
[ -d "$directory/four/checkpoints/step-3" ] || complain "step 3 is not saved"

for mesh in 'torus=[1,1] data=1 model=1' 'torus=[1,2] data=2 model=1' 'torus=[1,2] data=1 model=2'; do
  sets=
  for value in $mesh; do sets="$sets --set mesh.$value"; done
  rm -rf "$directory/on"
  cp -r "$directory/four" "$directory/on"
  expect 0 launch $config $sets --resume "$directory/on/checkpoints/step-3" --out "$directory/on"
  says 'resumed step 3'
  [ "$(losses "$directory/four")" = "$(losses "$directory/on")" ] || complain "other losses with mesh $mesh"
done

expect 0 launch $config --print --out "$directory/never"
says '^mpirun -n 4 .*train --config'
[ -e "$directory/never" ] && complain "--print ran the job"
expect 2 launch $config --ranks 3 --out "$directory/never"
says '^toroid: --ranks is 3, but the mesh has 4 chips'
[ "$(wc -l <"$directory/log")" -eq 1 ] || complain "more than one sentence"
expect 2 train $config --out "$directory/never"
says '^toroid: the mesh has 4 chips, but 1 rank was started'
[ "$(wc -l <"$directory/log")" -eq 1 ] || complain "more than one sentence"
# One rank alone finds these out; the others must not keep the job waiting.
expect 2 launch $config --out "$directory/four"
says 'already holds a run'
expect 2 launch $config --resume "$directory/nowhere"
says 'there is no checkpoint at'

# On ranks as on one: what differs needs --allow-changes, and without a config it is that of the run or of the step.
lower='--set optim.schedule.cosine.peak=1e-3'
rm -rf "$directory/on"
cp -r "$directory/four" "$directory/on"
expect 2 launch $config $lower --set train.steps=7 --resume "$directory/on"
says 'pass --allow-changes'
expect 0 launch $config $lower --set train.steps=7 --resume "$directory/on" --allow-changes
expect 0 launch --resume "$directory/on" --set train.steps=8
says 'resumed step 7'
expect 0 launch --resume "$directory/four/checkpoints/step-3" --out "$directory/again"
[ "$(losses "$directory/four" | tail -n 3)" = "$(losses "$directory/again")" ] || complain "other losses from a step alone"

timeout 120 "$(dirname "$0")/../parallel/comm/run_ranks.sh" 4 "$program" bench step $config --steps 2 --json \
  >"$directory/log" 2>&1 || complain "bench step on 4 ranks"
says '"communication_s":[0-9.e-]*[1-9]'
says '"overlap":[01]'

for signal in USR1 TERM; do
  rm -rf "$directory/long"
  "$program" launch $config --out "$directory/long" --set train.steps=1000000 --set train.checkpoint.every=0 \
    >"$directory/log" 2>&1 &
  launcher=$!
  for i in $(seq 600); do
    [ -s "$directory/long/metrics.jsonl" ] && break
    sleep 0.1
  done
  kill -s $signal $launcher
  wait $launcher
  got=$?
  [ $got -eq 75 ] || complain "SIG$signal: exit code $got instead of 75"
  ls "$directory/long/checkpoints" | grep -q '^step-' || complain "SIG$signal: nothing is saved"
done
exit $failed
