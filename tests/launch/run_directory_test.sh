#!/bin/sh
# run_directory_test.sh PROGRAM: two jobs of one run directory, as users start them, alone and as two ranks: the second one
# ends at once with one sentence and exit code 2, the first goes on. A job killed with -9 is in nobody's way. A run on two
# ranks goes back to an older step.
program=$1
directory=$(mktemp -d)
job=
trap '[ -n "$job" ] && kill "$job" 2>/dev/null; wait; rm -rf "$directory"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=0
mkdir -p "$directory/corpus/text"
for i in $(seq 40); do
  for j in $(seq 30); do echo "Document $i counts $((i * j)) and says word$(((i * 7 + j * 3) % 50))."; done \
    >"$directory/corpus/text/$i.txt"
done
cat >"$directory/run.textproto" <<END
model { d_model: 32 layers: 1 heads: 2 kv_heads: 1 head_dim: 8 ffn: 32 vocab: 640 }
mesh { torus: [1, 2] data: 2 }
batch { tokens_per_sequence: 32 global_sequences: 2 sequences_per_replica: 1 }
optim { schedule { constant { peak: 1e-3 } } }
train { steps: 6 seed: 3 threads: 1 checkpoint { every: 2 keep: 2 } }
data { directory: "$directory/data" corpus: "$directory/corpus" tokenizer { train { vocab: 640 } }
       source { name: "text" path: "text" format: TEXT } }
END

complain() {
  echo "$1" >&2
  [ -f "$directory/log" ] && cat "$directory/log" >&2
  failed=1
}

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

config="--config $directory/run.textproto"
one="--set mesh.torus=[1,1] --set mesh.data=1"
run=$directory/run
expect 0 prepare $config

written() {
  if [ -f "$run/metrics.jsonl" ]; then wc -c <"$run/metrics.jsonl"; else echo 0; fi
}

# start VERB...: a job of $run that does not end by itself; until it has written.
start() {
  before=$(written)
  "$program" "$@" --set train.steps=100000000 >"$directory/job" 2>&1 &
  job=$!
  for i in $(seq 600); do
    [ "$(written)" -gt "$before" ] && return
    sleep 0.1
  done
  complain "the job wrote nothing: $(cat "$directory/job")"
}

# stop CODE: the job saves and leaves.
stop() {
  kill "$job"
  wait "$job"
  got=$?
  [ $got -eq "$1" ] || complain "the job ended with $got instead of $1: $(cat "$directory/job")"
  job=
}

for verb in "train $one" launch; do
  start $verb $config --out "$run" --again
  for second in --resume "--again --out" --out; do
    expect 2 $verb $config $second "$run"
    says "^toroid: '$run' is in use by process [0-9]* on host $(hostname)"
    [ "$(grep -c '^toroid: ' "$directory/log")" -eq 1 ] || complain "more than one sentence"
  done
  [ -z "$(find "$run" -name '.lock-*')" ] || complain "the second job has left its lock"
  stop 75
  [ ! -e "$run/.lock" ] || complain "a job that ended holds its directory"
done

# All of a job killed: what is left of it is no owner.
start launch $config --resume "$run"
kill -9 "$(pgrep -P "$job" mpirun)"
wait "$job"
job=
owner=$(sed -n 's/.*"process": \([0-9]*\).*/\1/p' "$run/.lock")
for i in $(seq 100); do
  kill -9 "$owner" 2>/dev/null || break
  sleep 0.1
done
expect 0 launch $config --again --out "$run"
[ "$(ls "$run/checkpoints")" = "step-4
step-6" ] || complain "steps $(ls "$run/checkpoints")"

# Back to step 4 on two ranks, then on by the run's path.
expect 0 launch $config --set train.steps=5 --resume "$run/checkpoints/step-4"
says "the run goes back to step 4: its steps 6 and their rows of metrics.jsonl are now in $run/checkpoints/aside-0"
expect 0 launch $config --set train.steps=8 --resume "$run"
says 'resumed step 5'
[ "$(grep -o '"step":[0-9]*,"loss' "$run/metrics.jsonl" | grep -c .)" -eq 8 ] || complain "not a row for each step"
expect 2 launch $config --resume "$run/checkpoints/aside-0/step-6"
says 'was set aside when its run went back'

# Another one took the directory while this one was stopped.
start launch $config --set train.checkpoint.every=1 --resume "$run"
sed 's/"host": "/&elsewhere-/' "$run/.lock" >"$directory/lock"
mv "$directory/lock" "$run/.lock"
wait "$job"
got=$?
job=
[ $got -eq 3 ] || complain "a job that lost its directory ended with $got: $(cat "$directory/job")"
grep -q "was taken over by process [0-9]* on host elsewhere-" "$directory/job" || complain "nothing says that it was taken over"
exit $failed
