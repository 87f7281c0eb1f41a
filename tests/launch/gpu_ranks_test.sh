#!/bin/bash
# gpu_ranks_test.sh PROGRAM STAND_IN PART...: the whole program under mpirun with device CUDA, a process a rank: STAND_IN is
# PROGRAM with the stand-ins for CUDA and NCCL. Parts: ranks, resume, killed, stopped, faulted, supervised, places, verbs, out_of_step,
# many, certificate, doctor.
set -u
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/launch/tiny_run.sh
source "$here/tiny_run.sh"
CPU=$(realpath "$1")
TOROID=$(realpath "$2")
shift 2
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export XDG_CACHE_HOME="$directory/cache"
log=$directory/log
command -v pgrep >/dev/null || fail "pgrep is not installed, by which processes that stay are found"

one=(--set 'mesh.torus=[1,1]' --set mesh.data=1)
four=(--set 'mesh.torus=[2,2]' --set mesh.data=4 --set batch.sequences_per_replica=1)
model=(--set 'mesh.torus=[2,2]' --set mesh.data=2 --set mesh.model=2)
exact=(--set train.deterministic=true)
prepare() {
  tiny_run "$directory" 8
  sed -i 's/device: CPU/device: CUDA/' "$directory/run.textproto"
  config=(--config "$directory/run.textproto")
}
# train NAME ARGUMENT...: 8 steps on two ranks where nothing else is said.
train() {
  local name=$1
  shift
  expect 0 launch "${config[@]}" --out "$directory/$name" "$@"
}
losses() { grep -o '"step":[0-9]*,"loss":[^,]*' "$directory/$1/metrics.jsonl"; }
same() {  # RUN RUN: bit for bit
  [ "$(losses "$1" | wc -l)" -eq 8 ] || fail "$1 has other than 8 losses"
  [ "$(losses "$1")" = "$(losses "$2")" ] || fail "$1 and $2 have other losses"
}
near() {  # RUN RUN BOUND: losses, step by step
  local text
  text=$(paste -d: <(losses "$1") <(losses "$2") | awk -F: -v most="$3" '
    { a = $3; b = $6; gap = a > b ? a - b : b - a; if ($2 != $5 || a == "" || b == "" || gap > most * b) print }
    END { if (NR != 8) print NR " steps" }')
  [ -z "$text" ] || fail "$1 and $2 are further apart than $3: $text"
}
one_sentence() {
  says "$1"
  [ "$(grep -c '^toroid: ' "$log")" -eq 1 ] || fail "more than one sentence: $(cat "$log")"
}
# Ranks have the directory among their arguments. The stand-in's shared memory has no name.
nothing_stays() {
  local left
  left=$(pgrep -f "^$TOROID .*$directory" | tr '\n' ' ')
  [ -z "$left" ] || fail "processes are left: $left"
  left=$(find /dev/shm -name 'toroid-[0-9]*-????????????????' 2>/dev/null)
  [ -z "$left" ] || fail "shared memory is left: $left"
}

# In deterministic mode the bits of one rank, in fast mode the golden bounds.
part_ranks() {
  train one "${exact[@]}" "${one[@]}"
  train two "${exact[@]}"
  train four "${exact[@]}" "${four[@]}"
  train model "${exact[@]}" "${model[@]}"
  local run
  for run in two four model; do
    same one $run
    [ "$(hashes "$directory/one" 8)" = "$(hashes "$directory/$run" 8)" ] || fail "one and $run have other weights"
  done
  train fast "${model[@]}"
  near fast one 1e-5
  train again "${model[@]}"
  same fast again
}

# A checkpoint of the CPU's program goes on on GPUs, and back on the CPU.
part_resume() {
  local stand_in=$TOROID
  TOROID=$CPU
  train cpu --set device=CPU
  train there --set device=CPU --set train.steps=3
  TOROID=$stand_in
  train there --resume "$directory/there" --set train.steps=6
  says 'resumed step 3'
  TOROID=$CPU
  train there --set device=CPU --resume "$directory/there"
  says 'resumed step 6'
  near there cpu 1e-5
  TOROID=$stand_in
}

# lost KIND SENTENCE: the others say so and end with 76; what was saved before is whole, and the run goes on from it.
lost() {
  train calm "${exact[@]}" "${four[@]}"
  expect 76 launch "${config[@]}" "${exact[@]}" "${four[@]}" --set train.deadline_s=2 --set train.checkpoint.every=3 \
    --out "$directory/lost" "--set=faults.fault+={ kind: $1 rank: 2 step: 5 }"
  says "^toroid: .*$2"
  nothing_stays
  expect 0 checkpoint verify "$directory/lost"
  says '^1 of 1 checkpoints whole'
  train lost "${exact[@]}" "${four[@]}" --resume "$directory/lost"
  says 'resumed step 3'
  same calm lost
}
part_killed() { lost KILL 'rank 2 (.*) is gone (its process [0-9]* has ended)'; }
part_stopped() {
  lost STOP 'a deadline expired: .*process [0-9]* (rank 2 (.*)) is stopped by a signal'
}
# faulted NAME FAULT SENTENCE ARGUMENT...: a run goes on from step 3 and meets a GPU's fault (stand_in.h) before it saves
# step 6. The rank whose GPU it is says so once; what was saved before is whole, and the run goes on from it to the calm run's bits.
faulted() {
  local name=$1 fault=$2 sentence=$3
  shift 3
  train "$name" "${exact[@]}" "$@" --set train.steps=3
  TOROID_STAND_IN_FAULT=$fault expect 3 launch "${config[@]}" "${exact[@]}" "$@" --resume "$directory/$name" \
    --set train.checkpoint.every=3 --out "$directory/$name"
  says "^toroid: $sentence, seen by [A-Za-z]*; the last operations issued were "
  [ "$(grep -c '^toroid: GPU ' "$log")" -eq 1 ] || fail "more than one rank speaks of a GPU: $(cat "$log")"
  nothing_stays
  expect 0 checkpoint verify "$directory/$name"
  says '^1 of 1 checkpoints whole'
  train "$name" "${exact[@]}" "$@" --resume "$directory/$name"
  says 'resumed step 3'
  same calm "$name"
}
part_faulted() {
  train calm "${exact[@]}" "${four[@]}"
  local address='GPU 0 failed: an illegal memory access was encountered (cudaErrorIllegalAddress)'
  local lost='failed: unspecified launch failure (cudaErrorLaunchFailure)'
  # A kernel's fault, and a GPU that is no longer there: what CUDA says of it.
  faulted first kernel:300:700:0 "$address" "${four[@]}"
  faulted other kernel:300:700:2 "${address/GPU 0/GPU 2}" "${four[@]}"
  faulted lost kernel:200:719:3 "GPU 3 $lost" "${four[@]}"
  # While a checkpoint is read off it.
  faulted saved cudaMemcpyAsync:60:719:1 "GPU 1 $lost" "${four[@]}"
  faulted one kernel:300:700 "$address" "${one[@]}"
}
# Whoever starts the run again knows which rank it was.
part_supervised() {
  expect 0 launch --supervise --backoff 0.05 "${config[@]}" --set train.deadline_s=2 --set train.checkpoint.every=3 \
    --out "$directory/supervised" "--set=faults.fault+={ kind: STOP rank: 1 step: 5 }"
  grep -q '"code":76,.*"rank":1,' "$directory/supervised/incidents.jsonl" || fail "$(cat "$directory/supervised/incidents.jsonl")"
}
part_out_of_step() {
  expect 76 launch "${config[@]}" "${four[@]}" --set train.deadline_s=2 --out "$directory/lost" \
    "--set=faults.fault+={ kind: DROP rank: 2 step: 5 }"
  says '^toroid: mismatched collectives on axis data, .* rank 2 .* where ranks 0, 1, 3 '
  nothing_stays
}

# Where ranks find no GPU of their own.
part_places() {
  TOROID_STAND_IN_GPUS=1 expect 2 launch "${config[@]}" --out "$directory/never"
  one_sentence '^toroid: ranks 0 and 1 would share one GPU (0000:10:00.0)'
  TOROID_STAND_IN_GPUS=2 expect 2 launch "${config[@]}" "${four[@]}" --out "$directory/never"
  one_sentence '^toroid: 4 ranks were started on the host of rank 0, which shows rank 2 2 GPUs'
  TOROID_STAND_IN_GPUS=0 expect 2 launch "${config[@]}" --out "$directory/never"
  one_sentence '^toroid: device is CUDA, but CUDA sees no GPU here'
  # Memory that is taken, and a step that does not fit.
  TOROID_STAND_IN_GPU_MIB=1000 expect 3 launch "${config[@]}" --out "$directory/never"
  one_sentence '^toroid: not enough memory on GPU 0: of its 1.05 GB, 1.05 GB are free, and 1.07 GB stay free for CUDA'
  TOROID_STAND_IN_GPU_MIB=1025 expect 2 launch "${config[@]}" --set train.precision=BF16 --out "$directory/never"
  one_sentence '^toroid: a step takes .* of the device.s memory, which has 1.05 MB; the largest holders are workspace'
  [ ! -e "$directory/never" ] || fail "something was written"
  nothing_stays
}

part_verbs() {
  train two "${exact[@]}"
  local stand_in=$TOROID text
  expect 0 generate --checkpoint "$directory/two" --prompt 'ka mi' --tokens 8 --greedy
  text=$(cat "$log")
  TOROID=$CPU
  expect 0 generate --checkpoint "$directory/two" --prompt 'ka mi' --tokens 8 --greedy --set device=CPU
  [ "$(cat "$log")" = "$text" ] || fail "the CPU continues otherwise: $(cat "$log") and $text"
  TOROID=$stand_in
  expect 0 export --checkpoint "$directory/two" --out "$directory/hf"
  [ -s "$directory/hf/model.safetensors" ] || fail "export wrote no weights"
  expect 0 bench step "${config[@]}" "${one[@]}" --steps 1
  says 'tokens/s, peak memory'
  expect 0 train "${config[@]}" --dry-run
  says 'with gaps, placed .* bytes)'
  expect 0 certify "${config[@]}" --steps 2 --layouts '1x1; 1x2; model 2 of 1x2'
  says '^certified$'
}

# What takes longer.
part_many() {
  train one "${exact[@]}" "${one[@]}" --set batch.global_sequences=8
  train eight "${exact[@]}" --set 'mesh.torus=[2,4]' --set mesh.data=8 --set batch.global_sequences=8 \
    --set batch.sequences_per_replica=1
  same one eight
  train mixed "${exact[@]}" --set 'mesh.torus=[2,4]' --set mesh.data=4 --set mesh.model=2 --set batch.global_sequences=8
  same one mixed
  train pods "${exact[@]}" --set mesh.pods=2 --set 'mesh.torus=[2,2]' --set mesh.data=2 --set mesh.model=2 \
    --set batch.global_sequences=8
  same one pods
}
part_certificate() {
  TOROID_STAND_IN_GPUS=16 expect 0 certify "${config[@]}" --steps 3 --set batch.global_sequences=16 --set batch.sequences_per_replica=1
  says '^certified$'
}
part_doctor() {
  TOROID_STAND_IN_GPUS=2 TOROID_STAND_IN_GPU_MIB=160 expect 0 doctor --quick
  says '^ok   GPUs  *2 '
  says '^ok   GPU 1  *GPU 1, compute capability 9.0, 0000:11:00.0'
}

prepare
for part in "$@"; do
  "part_$part"
done
