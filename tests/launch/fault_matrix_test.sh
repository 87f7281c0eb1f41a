#!/usr/bin/env bash
# fault_matrix_test.sh PROGRAM ROW...: rows of the fault matrix of docs/operations.md, each injected for real into runs of a
# tiny model under `toroid launch --supervise`: ranks and mpirun killed or stopped, collectives left out, saves that fail,
# pods that go and come back. What the faults leave must be bit-equal to an undisturbed run. Prints the times to recover.
# Rows: mix, learned, kills, slow, pods, scale, signals, loop, changed, mpirun, hang.
set -u
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/launch/tiny_run.sh
source "$repository/tests/launch/tiny_run.sh"
TOROID=$(realpath "$1")
shift
work=$(mktemp -d)
supervisor=''
trap '[ -n "$supervisor" ] && kill "$supervisor" 2>/dev/null; wait; rm -rf "$work"' EXIT

command -v pgrep >/dev/null || fail "pgrep is not installed, by which processes that stay are found"
failed=0
complain() {
  echo "$row: $*" >&2
  [ -f "$work/log" ] && tail -n 60 "$work/log" >&2
  failed=1
}

tiny_run "$work" 120
sed -i 's/threads: 1  checkpoint.*/threads: 1  deterministic: true  deadline_s: 2\n checkpoint { every: 20  keep: 3  on_failure: STOP }  log { every: 1000 } }/' \
  "$work/run.textproto"
config=(--config "$work/run.textproto")

same() {  # STEP RUN RUN
  [ -n "$(hashes "$2" "$1")" ] || complain "no hashes of step $1"
  [ "$(hashes "$2" "$1")" = "$(hashes "$3" "$1")" ] || complain "step $1 is not bit-equal"
}
calm() {  # STEPS: an undisturbed run, made once
  [ -d "$work/calm-$1" ] && return
  "$TOROID" launch "${config[@]}" --set "train.steps=$1" --out "$work/calm-$1" >"$work/log" 2>&1 || complain "the calm run"
}
# supervise CODE ARGUMENT...: to its end.
supervise() {
  local wanted=$1 code=0
  shift
  timeout 300 "$TOROID" launch --supervise "${config[@]}" --backoff 0.05 "$@" >"$work/log" 2>&1 || code=$?
  [ $code -eq "$wanted" ] || complain "exit code $code and not $wanted"
}
# start RUN ARGUMENT...: one that goes on; until it has trained 40 steps.
start() {
  local run=$1
  shift
  "$TOROID" launch --supervise "${config[@]}" --backoff 0.05 --set train.steps=1000000 --out "$run" "$@" \
    >"$work/log" 2>&1 &
  supervisor=$!
  for ((i = 0; i < 600; ++i)); do
    [ -s "$run/metrics.jsonl" ] && [ "$(wc -l <"$run/metrics.jsonl")" -ge 40 ] && return
    sleep 0.05
  done
  complain "it trains nothing"
}
until_says() {
  for ((i = 0; i < 600; ++i)); do
    grep -q -- "$1" "$work/log" && return
    sleep 0.05
  done
  complain "nothing says: $1"
}
says() { grep -q -- "$1" "$work/log" || complain "nothing says: $1"; }
stop() {  # CODE SIGNAL
  local code=0
  kill -s "$2" "$supervisor"
  wait "$supervisor" || code=$?
  supervisor=''
  [ $code -eq "$1" ] || complain "SIG$2: exit code $code and not $1"
}
children() { pgrep -P "$1"; }
incident() { grep -q -- "$2" "$1/incidents.jsonl" || complain "no incident with $2: $(cat "$1/incidents.jsonl")"; }
recovery() {
  grep -o '"recovery_s":[0-9.]*[0-9]' "$1/incidents.jsonl" | cut -d: -f2 | sort -n |
    awk -v row="$row" '{ all[NR] = $1 } END { printf "%s: recovered %d times, median %.2f s, most %.2f s\n", row, NR,
      all[int((NR + 1) / 2)], all[NR] }'
}
# Nothing of the jobs stays: neither ranks, which all have the directory among their arguments, nor shared memory.
nothing_stays() {
  local left
  left=$(pgrep -f "^$TOROID train .*$work" | tr '\n' ' ')
  [ -z "$left" ] || complain "ranks are left: $left"
  left=$(grep -l "^process $1$" /dev/shm/toroid-job-*/owner 2>/dev/null)
  [ -z "$left" ] || complain "shared memory is left: $left"
}
fault() { printf -- '--set=faults.fault+={ %s }' "$*"; }

# Rows 1, 2 and 3 and a save that fails: killed, stopped, out of step, crashed, a damaged checkpoint.
row_mix() {
  calm 120
  local run=$work/mix
  supervise 0 --out "$run" "$(fault kind: KILL rank: 1 step: 7)" "$(fault kind: KILL rank: 0 step: 33)" \
    "$(fault kind: STOP rank: 1 step: 51)" "$(fault kind: DROP rank: 1 step: 72)" \
    "$(fault kind: FAIL_SAVE rank: 1 step: 75)" "$(fault kind: FILE rank: 0 step: 109)" \
    "$(fault kind: SEGFAULT rank: 0 step: 110)"
  same 120 "$work/calm-120" "$run"
  check_rows "$run" 120
  [ "$(wc -l <"$run/incidents.jsonl")" -eq 6 ] || complain "not six incidents: $(cat "$run/incidents.jsonl")"
  # Who, what and how much was lost: never more than an interval, but for the checkpoint that was damaged.
  incident "$run" '"code":76,.*"rank":1,.*is gone.*"step":[0-9]*,"resumed":0,'
  incident "$run" '"code":76,.*"rank":0,.*is gone.*"resumed":20,'
  # Before it came to a collective or while it waited in one: its state is told in both.
  incident "$run" '"code":76,.*"rank":1,"said":"a deadline expired: rank 0 .*process [0-9]* (rank 1 .*is stopped by a signal'
  local report
  report=$(grep 'stopped by a signal' "$run/incidents.jsonl" | grep -o 'hang-report-[^"]*')
  grep -q 'Late for a collective that others waited in: rank 1\.' "$run/$report" || complain "the report: $(cat "$run/$report")"
  incident "$run" '"code":76,.*mismatched collectives on axis data, sequence number [0-9]*: rank'
  incident "$run" '"code":3,.*rank 1 could not save its part of the checkpoint: faults: FAIL_SAVE'
  incident "$run" '"code":1,.*"rank":0,.*"resumed":80,'
  says 'step-100 is damaged and passed over'
  local lost
  lost=$(grep -o '"lost_steps":[0-9]*' "$run/incidents.jsonl" | head -n 5 | cut -d: -f2 | sort -n | tail -n 1)
  [ "$lost" -le 20 ] || complain "$lost steps were lost, more than an interval"
  [ "$(wc -l <"$run/faults.jsonl")" -eq 7 ] || complain "a fault happened twice: $(cat "$run/faults.jsonl")"
  recovery "$run"
}

# Row 2 where train.deadline_s is long: the steps have shown how long they wait.
row_learned() {
  local run=$work/learned lasted
  lasted=$(date +%s)
  supervise 0 --out "$run" --set train.steps=320 --set train.deadline_s=200 --set train.deadline_floor_s=1 \
    "$(fault kind: STOP rank: 1 step: 301)"
  lasted=$(($(date +%s) - lasted))
  [ "$lasted" -lt 120 ] || complain "$lasted s"
  incident "$run" '"code":76,.*"rank":1,"said":"a deadline expired: rank 0 .*process [0-9]* (rank 1 .*is stopped by a signal'
  grep -o 'has waited [0-9.]* s' "$run/incidents.jsonl" | sed 's/^/learned: /'
  recovery "$run"
}

# Row 1: a rank killed at twenty random steps.
row_kills() {
  calm 600
  local run=$work/kills
  supervise 0 --set train.steps=600 --out "$run" --give-up-after 10 \
    --set 'faults.random={ mean_steps: 28 seed: 20 kinds: [KILL] }'
  same 600 "$work/calm-600" "$run"
  check_rows "$run" 600
  local killed lost
  killed=$(wc -l <"$run/faults.jsonl")
  [ "$killed" -ge 20 ] || complain "only $killed kills"
  lost=$(grep -o '"lost_steps":[0-9]*' "$run/incidents.jsonl" | cut -d: -f2 | sort -n | tail -n 1)
  [ "$lost" -le 20 ] || complain "$lost steps were lost, more than an interval"
  recovery "$run"
}

# Row 11: a rank that sleeps 50 ms in each step is named, and named again when it keeps up.
row_slow() {
  calm 120
  local run=$work/slow
  supervise 0 --out "$run" --set 'train.straggler={ factor: 1.5 steps: 5 }' \
    "$(fault kind: SLOW rank: 1 step: 30 milliseconds: 50 steps: 20)"
  same 120 "$work/calm-120" "$run"
  local step
  step=$(grep 'is slower than its peers' "$work/log" | grep 'rank 1 ' | head -n 1 | sed 's/.*step \([0-9]*\):.*/\1/')
  { [ -n "$step" ] && [ "$step" -ge 30 ] && [ "$step" -le 40 ]; } || complain "rank 1 is named at step '$step'"
  says 'rank 1 .*keeps up again'
  [ ! -e "$run/incidents.jsonl" ] || complain "a slow rank is no incident"
  echo "slow: named $((step - 29)) steps after it began"
}

# Row 12: two pods of two ranks, one of which does not come back, and comes back later.
two_pods=(--set mesh.pods=2 --set batch.global_sequences=8)
row_pods() {
  "$TOROID" launch "${config[@]}" "${two_pods[@]}" --set train.steps=160 --out "$work/calm-pods" >"$work/log" 2>&1 ||
    complain "the calm run"
  local run=$work/pods
  rm -f "$work/available"  # the first start finds both
  (
    while ! grep -q '"step":30,' "$run/metrics.jsonl" 2>/dev/null; do sleep 0.02; done
    echo 1 >"$work/available"
    while ! grep -q '"step":100,' "$run/metrics.jsonl" 2>/dev/null; do sleep 0.02; done
    rm "$work/available"
  ) &
  supervise 0 --out "$run" "${two_pods[@]}" --set train.steps=160 --pods-file "$work/available" --look-again 0.2 \
    "$(fault kind: KILL rank: 3 step: 70)"
  wait $!
  same 160 "$work/calm-pods" "$run"
  check_rows "$run" 160
  incident "$run" '"rank":3,.*"pods_before":2,"pods_after":1'
  incident "$run" '"code":75,.*"said":"more pods can run than 1".*"lost_steps":0,.*"pods_before":1,"pods_after":2'
  recovery "$run"
}

# The same over hosts, which this machine plays, with a batch that is scaled.
row_scale() {
  local run=$work/scale
  printf '#!/bin/sh\n[ "$1" != localhost ] || [ ! -e "%s/gone" ]\n' "$work" >"$work/check"
  chmod +x "$work/check"
  (
    while ! grep -q '"step":30,' "$run/metrics.jsonl" 2>/dev/null; do sleep 0.02; done
    touch "$work/gone"
  ) &
  supervise 0 --out "$run" "${two_pods[@]}" --set batch.on_fewer_pods=SCALE --hosts "$(hostname):2,localhost:2" \
    --check-host "$work/check" "$(fault kind: KILL rank: 3 step: 50)"
  wait $!
  says 'host localhost does not answer'
  says 'batch.on_fewer_pods is SCALE: 4 sequences a step and not 8; the learning rate stays'
  says 'since the checkpoint, .*batch.global_sequences'
  incident "$run" '"rank":3,.*"resumed":40,.*"pods_before":2,"pods_after":1'
  check_rows "$run" 120
  # 40 steps of 8 sequences of 32 tokens, 80 of 4.
  [ "$(tail -n 1 "$run/metrics.jsonl" | grep -o '"tokens":[0-9]*')" = '"tokens":20480' ] ||
    complain "$(tail -n 1 "$run/metrics.jsonl")"
}

# Row 13: asked to save and leave, the supervisor with it.
row_signals() {
  for signal in TERM INT USR1; do
    local run=$work/signal-$signal
    start "$run"
    local was=$supervisor
    stop 75 "$signal"
    nothing_stays "$was"
    local step
    step=$(newest_step "$run")
    { [ -n "$step" ] && [ $((step % 20)) -ne 0 -o "$step" -ge 40 ]; } || complain "SIG$signal saved step '$step'"
    incident "$run" '"code":75,.*"said":"signal [0-9]* was received"'
  done
}

# Row 14: a step that ends every start.
row_loop() {
  local run=$work/loop code
  supervise 76 --out "$run" --give-up-after 1 "$(fault kind: KILL rank: 1 step: 30 repeat: true)"
  says 'not started again: 1 restarts in a row got no further than step 20'
  [ "$(wc -l <"$run/incidents.jsonl")" -eq 3 ] || complain "not three starts: $(cat "$run/incidents.jsonl")"
  # What is wrong with the input stays wrong: one start.
  supervise 2 --out "$run"
  [ "$(grep -c 'already holds a run' "$work/log")" -eq 1 ] || complain "tried again: $(cat "$work/log")"
}

# Row 15: what decides the weights is another than it was; every difference is named.
row_changed() {
  calm 120
  local run=$work/changed
  cp -r "$work/calm-120" "$run"
  supervise 2 --resume "$run" --set train.steps=200 --set train.seed=9 --set optim.adamw.beta1=0.8
  says 'train.seed'
  says 'optim.adamw.beta1'
  cp -r "$work/data" "$work/other-data"
  local shard
  shard=$(find "$work/other-data" -name '*.bin' | head -n 1)
  printf '\001' | dd of="$shard" bs=1 seek=400 conv=notrunc status=none
  supervise 2 --resume "$run" --set train.steps=200 --set "data.directory=$work/other-data"
  says 'toroid: '
  cp -r "$work/data" "$work/other-words"
  local tokenizer
  tokenizer=$(find "$work/other-words" -name 'tokenizer.model' | head -n 1)
  printf '\001' | dd of="$tokenizer" bs=1 seek=400 conv=notrunc status=none
  supervise 2 --resume "$run" --set train.steps=200 --set "data.directory=$work/other-words"
  [ "$(newest_step "$run")" = 120 ] || complain "it was trained on"
  supervise 0 --resume "$run" --set train.steps=140
  [ "$(newest_step "$run")" = 140 ] || complain "unchanged, it does not go on"
}

# Row 16: mpirun killed, while a rank is stopped too; no rank and no shared memory stays, and the run goes on.
row_mpirun() {
  local run=$work/mpirun mpirun ranks
  start "$run"
  mpirun=$(children "$supervisor")
  mapfile -t ranks < <(children "$mpirun")
  [ ${#ranks[@]} -eq 2 ] || complain "ranks: ${ranks[*]}"
  kill -STOP "${ranks[1]}"
  kill -KILL "$mpirun"
  until_says 'the run goes on from step'
  for rank in "${ranks[@]}"; do
    if kill -0 "$rank" 2>/dev/null; then complain "rank process $rank outlives mpirun"; fi
  done
  [ "$(find /dev/shm -maxdepth 2 -name owner -exec grep -l "^process $supervisor$" {} + | wc -l)" -eq 1 ] ||
    complain "not one job directory"
  local was=$supervisor
  stop 75 TERM
  nothing_stays "$was"
  incident "$run" '"said":"mpirun was ended by signal 9"'
  recovery "$run"
}

# All ranks stopped: none is left to say so.
row_hang() {
  local run=$work/hang
  start "$run" --hang-after 3
  # shellcheck disable=SC2046
  kill -STOP $(children "$(children "$supervisor")")
  until_says 'the run goes on from step'
  local was=$supervisor
  stop 75 TERM
  nothing_stays "$was"
  incident "$run" '"code":76,.*no sign of life for [0-9.]* s, .*rank 0 (process [0-9]*), rank 1 (process [0-9]*) stopped by'
  recovery "$run"
}

for row in "$@"; do
  begun=$(date +%s.%N)
  "row_$row"
  awk -v a="$begun" -v b="$(date +%s.%N)" -v row="$row" 'BEGIN { printf "%s: %.1f s\n", row, b - a }'
done
exit $failed
