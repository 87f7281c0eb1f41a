#!/bin/bash
# identity_test.sh PROGRAM: two ranks that were started with unlike configs, data, checkpoints, programs or processors.
# What must be the same ends every rank with exit code 2 and one sentence before anything is written; what may differ does
# not; processors settle on what both can do.
TOROID=$1
. "$(dirname "$0")/tiny_run.sh"
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
failed=0
tiny_run "$directory" 4
config="--config $directory/run.textproto"

# two NAME CODE ARGUMENT...: rank 0 with the arguments in $first and rank 1 with these, or with another program in $other,
# another $out, no more than the instructions $isa. Every rank ends with CODE; what mpirun sees is the wrapper's 0, since it
# would end the second rank for the first one's code.
two() {
  name=$1 code=$2
  shift 2
  say='"$@"; echo $? >"$0.$OMPI_COMM_WORLD_RANK"'
  timeout 120 mpirun --oversubscribe --bind-to none --mca pml ob1 --mca btl vader,self --mca osc ^ucx \
    --mca mpi_yield_when_idle 1 -x OMP_NUM_THREADS=1 \
    -n 1 sh -c "$say" "$directory/code" "$TOROID" train $config --out "$directory/$name" $first : \
    -n 1 env ${isa:+TOROID_MAX_ISA=$isa} sh -c "$say" "$directory/code" "${other:-$TOROID}" train $config \
    --out "${out:-$directory/$name}" "$@" >"$directory/log" 2>&1
  for rank in 0 1; do
    [ "$(cat "$directory/code.$rank")" = "$code" ] ||
      complain "$name: rank $rank ends with $(cat "$directory/code.$rank") and not $code"
    rm -f "$directory/code.$rank"
  done
  [ "$code" = 0 ] || [ ! -e "$directory/$name" ] || complain "$name: something was written"
}

says() { grep -q -- "$1" "$directory/log" || complain "nothing says: $1"; }
refuses() {  # SENTENCE
  says "^toroid: rank 1 has $1; start all ranks"
  [ "$(grep -c '^toroid: ' "$directory/log")" -eq 1 ] || complain "more than one sentence"
}
complain() {
  echo "$1" >&2
  cat "$directory/log" >&2
  failed=1
}
losses() { grep -o '"step":[0-9]*,"loss":[^,]*' "$directory/$1/metrics.jsonl"; }

two seed 2 --set train.seed=2
refuses 'train.seed 2 and rank 0 has 1'
# It would save when nobody else does.
two saving 2 --set train.checkpoint.every=1
refuses 'train.checkpoint.every 1 and rank 0 has 200'

mkdir "$directory/less"
cp "$directory"/corpus/1*.txt "$directory/less"
"$TOROID" prepare $config --set data.directory="$directory/unlike" --set data.corpus="$directory/less" >/dev/null 2>&1 ||
  fail "prepare"
two tokens 2 --set data.directory="$directory/unlike" --set data.corpus="$directory/less"
refuses 'tokenizer [0-9a-f]\{16\} and rank 0 has [0-9a-f]\{16\}, one of 3 values that differ'

cp "$TOROID" "$directory/toroid"
printf x >>"$directory/toroid"
other="$directory/toroid" two program 2
refuses 'program toroid [^;]*file [0-9a-f]\{32\} and rank 0 has toroid [^;]*file [0-9a-f]\{32\}'

# Places, threads, traces and logs are a rank's own.
cp -r "$directory/data" "$directory/elsewhere"
out="$directory/unused" two own_places 0 --set data.directory="$directory/elsewhere" --set train.threads=2 \
  --set train.log.every=1 --trace "$directory/never.json"
says 'the ranks were given different traces; the first rank.s goes for all: none'
[ -e "$directory/own_places/checkpoints/step-4" ] || complain "the run is not saved where the first rank was told"
[ -e "$directory/unused" ] && complain "another rank's --out was written to"

isa=baseline two lowered 0
TOROID_MAX_ISA=baseline two both 0
[ "$(losses lowered)" = "$(losses both)" ] || complain "rank 1's processor is not what both ranks use"

first="--resume $directory/own_places" two step 2 --resume "$directory/lowered"
[ -e "$directory/step" ] && complain "a run was begun"
refuses 'checkpoint [0-9a-f]\{32\} (step 4) and rank 0 has [0-9a-f]\{32\} (step 4)'
first="--set train.init_from=$directory/own_places" two weights 2 --set train.init_from="$directory/lowered"
refuses 'train.init_from [0-9a-f]\{32\} and rank 0 has [0-9a-f]\{32\}'
exit $failed
