#!/usr/bin/env bash
# From a fresh Debian 12 machine to a small Gemma that was trained on real English, mathematics and code, and writes.
#
#   ./launch/quickstart.sh             goes on where an earlier call stopped; what is finished is skipped
#   ./launch/quickstart.sh --again     trains again from the start (tokenizer and shards too)
#   ./launch/quickstart.sh --minutes N trains as many steps as fit into N minutes from the call on; else as many as the
#                                      recipe has. How long a step takes is measured before training starts, and what
#                                      follows is said. A training that was begun keeps its number of steps.
#
# SIGTERM and SIGUSR1 reach the program that runs; training saves and this ends with 75 (docs/exit_codes.md).
#
# What it costs: some 20 Debian packages, 25 MB of Debian documentation as the corpus, 400 steps of 4096 tokens on a
# model of 4.3 M parameters, by four ranks as a 2 x 2 torus. It writes to build/, .cache/quickstart/ and runs/quickstart/,
# figures of this machine to ~/.cache/toroid/ where there are none yet, and nowhere else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

config=configs/quickstart.textproto
run=runs/quickstart
state=.cache/quickstart
toroid=build/release/bin/toroid

# As many steps end below the bigram entropy (docs/quickstart.md).
enough=$(sed -n 's/^ *steps: *\([0-9]*\).*/\1/p' "$config")

again=
minutes=
usage() { sed -n '2,13s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
while [ $# -gt 0 ]; do
  case "$1" in
    --again) again=yes; shift ;;
    --minutes)
      minutes=${2:-}
      if ! [[ $minutes =~ ^[1-9][0-9]{0,3}$ ]]; then
        echo "quickstart: --minutes is '$minutes', but a whole number from 1 to 9999 is needed" >&2
        exit 2
      fi
      shift 2 ;;
    *) usage ;;
  esac
done
mkdir -p "$state"
if [ -n "$again" ]; then rm -f "$state"/prepare.done "$state"/entropy.done "$state"/train.done; fi

begin=$SECONDS
report=()
stage=
stopped=
child=

# How it ended, with the code of the program that ended it.
say_how() {
  local code=$?
  [ -n "$stage" ] || return 0
  case "$code" in
    75) echo "quickstart: the training was saved on a signal; call again to go on from there" >&2 ;;
    130 | 138 | 143) echo "quickstart: stopped in the stage \"$stage\"; call again to go on from there" >&2 ;;
    *) echo "quickstart: the stage \"$stage\" failed (exit code $code); call again to go on from there" >&2 ;;
  esac
  exit "$code"
}
trap say_how EXIT

# Runs a program so that a signal to this script reaches it: bash alone would look at the signal only when the program has
# ended. `wait` returns early when one arrives, so it is asked until the program has really ended.
program() {
  local code=0
  "$@" &
  child=$!
  while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done
  wait "$child" || code=$?
  child=
  if [ -n "$stopped" ] && [ "$code" -eq 0 ]; then code=$stopped; fi  # ended all the same; what follows is not begun
  return "$code"
}
pass_on() {  # SIGNAL EXIT_CODE
  stopped=$2
  if [ -n "$child" ]; then kill -s "$1" "$child" 2>/dev/null || true; else exit "$2"; fi
}
trap 'pass_on TERM 143' TERM
trap 'pass_on TERM 130' INT  # which a program in the background does not see
trap 'pass_on USR1 138' USR1

# A stage is finished while its stamp holds what it was made from.
finished() { [ -f "$state/$1.done" ] && [ "$(cat "$state/$1.done")" = "$2" ]; }

run_stage() {  # run_stage NAME KEY TEXT FUNCTION; an empty KEY: the function itself skips what is done
  local name=$1 key=$2 text=$3 function=$4 start=$SECONDS
  if [ -n "$key" ] && finished "$name" "$key"; then
    echo "== $text: done before"
    report+=("$(printf '%6s    %s' '-' "$text")")
    return
  fi
  echo "== $text"
  stage=$name
  "$function"
  stage=
  if [ -n "$key" ]; then echo "$key" >"$state/$name.done"; fi
  report+=("$(printf '%6d s  %s' $((SECONDS - start)) "$text")")
}

dependencies() { ./launch/install_dependencies.sh; }

build() {
  # The program alone, several sources at a time; ./launch/test.sh switches the tests on in the same directory.
  [ -f build/release/CMakeCache.txt ] ||
    program cmake --preset release -DTOROID_TESTS=OFF -DTOROID_UNITY=ON -Wno-dev
  program cmake --build build/release --target toroid -j "$(nproc)"
}

corpus() { program ./launch/fetch_corpus.sh "$state/corpus"; }

prepare() { program "$toroid" prepare --config "$config"; }

entropy() {
  program "$toroid" data entropy --config "$config" >"$state/entropy.txt"
  cat "$state/entropy.txt"
}

# The figures only tell more; where they cannot be kept (exit code 3, such as a home that cannot be written), go on.
unmeasured() {
  [ "$1" -eq 3 ] || return "$1"
  echo "quickstart: going on without figures of this machine"
}

# What the step that training prints at the end is predicted from (docs/performance.md).
measure() {
  local figures=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/toroid
  if ! grep -qs '^op {' "$figures/host.textproto"; then program "$toroid" doctor --quick || unmeasured $?; fi
  if ! grep -qs '^timing {' "$figures/collectives.textproto"; then
    program "$toroid" bench collectives --config "$config" --sizes 16K,256K,4M --rounds 3 --write ||
      unmeasured $?
  fi
}

# How many steps the training has: with --minutes what fits into the time that is left, validations and the rest included.
# A step takes what the middle one of a few takes, without the first.
choose_steps() {
  program "$toroid" launch --config "$config" --set train.steps=6 --set train.validate.every=0 --out "$state/timing" \
    --again >"$state/timing.log" 2>&1 || { local code=$?; cat "$state/timing.log" >&2; return $code; }
  local seconds
  seconds=$(grep -o '"step_s":[0-9.eE+-]*' "$state/timing/metrics.jsonl" | cut -d: -f2 | sed 1d | sort -g | sed -n 3p)
  awk -v step="$seconds" -v spent=$((SECONDS - begin)) -v minutes="$minutes" -v enough="$enough" -v file="$state/steps" '
    BEGIN {
      rest = 20; share = 1.03  # start and samples; validations and checkpoints
      steps = enough
      if (minutes != "") steps = int((minutes * 60 - spent - rest) / (step * share) / 10) * 10
      if (steps < 10) steps = 10
      printf "%d steps of %.2f s, as measured just now: some %.0f minutes\n", steps, step, steps * step * share / 60
      if (steps < enough) {
        need = int((enough * step * share + spent + rest) / 60) + 1
        printf "too few to end below the bigram entropy, for which --minutes %d would be enough on this machine\n", need
      }
      print steps >file
    }'
}

train() {
  local mode=(--out "$run")
  if [ -d "$run" ]; then
    # A run that was interrupted goes on, unless it began from other data or another config.
    if [ -z "$again" ] && finished started "$prepared" && [ -s "$state/steps" ] &&
      compgen -G "$run/checkpoints/step-*" >/dev/null; then
      mode=(--resume "$run")
    else
      mode+=(--again)
    fi
  fi
  if [ "${mode[0]}" = --resume ]; then
    echo "the run goes on with its $(cat "$state/steps") steps${minutes:+; --again would begin one of $minutes minutes}"
  else
    choose_steps
  fi
  echo "$prepared" >"$state/started.done"
  program "$toroid" launch --config "$config" --set "train.steps=$(cat "$state/steps")" "${mode[@]}"
}

# A field's last value in a file of JSON objects, one a line.
last_value() { grep -oE "\"$1\": *-?[0-9.eE+-]+" "$2" | tail -n 1 | sed 's/.*: *//'; }

verify() {
  local loss unigram bigram
  loss=$(last_value validation_loss "$run/metrics.jsonl")
  unigram=$(sed -n 's/.*unigram[^0-9]*\([0-9.]*\) nats.*/\1/p' "$state/entropy.txt" | head -n 1)
  bigram=$(sed -n 's/.*bigram[^0-9]*\([0-9.]*\) nats.*/\1/p' "$state/entropy.txt" | head -n 1)
  awk -v loss="$loss" -v unigram="$unigram" -v bigram="$bigram" -v steps="$(cat "$state/steps")" -v enough="$enough" 'BEGIN {
    if (loss == "" || unigram == "" || bigram == "") { print "no validation loss or no entropies to compare"; exit 1 }
    printf "validation loss %.3f nats a token; unigram %.3f, bigram %.3f, on the same documents\n", loss, unigram, bigram
    if (steps < enough) { printf "%d steps are too few to be compared; %d would be enough\n", steps, enough; exit 0 }
    if (loss > unigram - 1.5) { print "the model is not 1.5 nats below the unigram entropy"; exit 1 }
    if (loss >= bigram) { print "the model is not below the bigram entropy"; exit 1 }
    printf "the model is %.2f nats below the unigram and %.2f below the bigram\n", unigram - loss, bigram - loss
  }'
}

samples() {
  local prompt
  for prompt in 'The CREATE TABLE statement' 'Theorem. Let G be a finite group' 'def __init__(self'; do
    echo "-- $prompt"
    program "$toroid" generate --checkpoint "$run" --prompt "$prompt" --tokens 96 --temperature 0.7 --top-p 0.95 --seed 1
    echo
  done
}

run_stage dependencies '' 'dependencies (apt)' dependencies
run_stage build '' 'build' build
run_stage corpus '' 'corpus' corpus
prepared=$(cat "$config" "$state/corpus/PACKAGES.tsv" | sha256sum | cut -d' ' -f1)
run_stage prepare "$prepared" 'tokenizer and token shards' prepare
run_stage entropy "$prepared" 'unigram and bigram entropy of the validation documents' entropy
run_stage measure '' 'what this machine can do' measure
if [ -n "$minutes" ] && finished train "$prepared"; then
  echo "quickstart: the training has its $(cat "$state/steps") steps; with --again, $minutes minutes count anew"
fi
run_stage train "$prepared" 'training' train
run_stage verify '' 'the loss against counting' verify
run_stage samples '' 'what the model writes' samples

echo "== where the time went"
printf '%s\n' "${report[@]}"
printf '%6d s  in all\n' $((SECONDS - begin))
echo "Success: the model is in $run. More text: $toroid generate --checkpoint $run --prompt 'Your words'"
