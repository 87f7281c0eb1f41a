#!/usr/bin/env bash
# Trains a small model on the text of this repository under a supervisor while faults befall it at random, from within
# (`faults` of the config) and from outside (ranks and mpirun killed or stopped). None of them changes what is computed, so
# that at the end the weights are compared bit for bit with those of as many undisturbed steps. Prints the incidents, the
# steps lost, the times to recover and the goodput. Ends with 1 where the weights differ or the run did not come through.
#
#   launch/chaos.sh [--minutes 10] [--seed 1] [--ranks 4] [--mean-steps 150] [--out DIR]
#
# --mean-steps: between two faults from within. --out keeps the runs there. TOROID names another program than the release
# build's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
minutes=10 seed=1 ranks=4 mean_steps=150 out=''
while [ $# -gt 0 ]; do
  if [ $# -lt 2 ]; then echo "chaos: $1 has no value" >&2; exit 2; fi
  case $1 in
    --minutes) minutes=$2 ;;
    --seed) seed=$2 ;;
    --ranks) ranks=$2 ;;
    --mean-steps) mean_steps=$2 ;;
    --out) out=$2 ;;
    *) echo "chaos: there is no flag $1; see the head of launch/chaos.sh" >&2; exit 2 ;;
  esac
  shift 2
done
toroid=$(realpath "${TOROID:-build/release/bin/toroid}")
[ -x "$toroid" ] || { echo "chaos: $toroid is not there; build it, or name another with TOROID" >&2; exit 2; }
case $ranks in
  1) torus=[1,1] ;;
  2) torus=[1,2] ;;
  4) torus=[2,2] ;;
  8) torus=[2,4] ;;
  16) torus=[4,4] ;;
  *) echo "chaos: --ranks is $ranks; choose 1, 2, 4, 8 or 16" >&2; exit 2 ;;
esac

supervisor='' gremlin=''
work=$out
if [ -z "$work" ]; then work=$(mktemp -d); fi
stop_all() {
  if [ -n "$gremlin" ]; then kill "$gremlin" 2>/dev/null || true; fi
  if [ -n "$supervisor" ]; then kill "$supervisor" 2>/dev/null && wait "$supervisor" || true; fi
  if [ -z "$out" ]; then rm -rf "$work"; fi
}
trap stop_all EXIT

mkdir -p "$work/corpus"
rm -rf "$work/chaos" "$work/calm"
for text in *.md docs/*.md; do cp "$text" "$work/corpus/$(basename "$text" .md).txt"; done
config=$work/run.textproto
cat >"$config" <<CONFIG
device: CPU
model { d_model: 64  layers: 2  heads: 4  kv_heads: 1  head_dim: 16  ffn: 96  vocab: 800 }
mesh { torus: $torus  data: $ranks }
batch { tokens_per_sequence: 64  global_sequences: $((ranks < 4 ? 4 : ranks))  sequences_per_replica: 1 }
optim { adamw {}  schedule { constant { peak: 1e-3  warmup: 20 } } }
train {
  steps: 1000000000  seed: $seed  precision: FP32  threads: 1  deterministic: true  deadline_s: 4
  checkpoint { every: 25  keep: 3  async: true }  log { every: 1000 }
}
data {
  directory: "$work/data"  corpus: "$work/corpus"  validation_fraction: 0.05
  tokenizer { train { vocab: 800  input_megabytes: 1 } }
  source { name: "docs"  path: "."  format: TEXT  weight: 1 }
}
CONFIG
"$toroid" prepare --config "$config" >"$work/prepare.log" 2>&1 || { cat "$work/prepare.log" >&2; exit 1; }

kinds='[KILL, STOP, SEGFAULT, SLOW, DROP, FILE, FAIL_SAVE]'
if [ "$ranks" = 1 ]; then kinds='[KILL, SEGFAULT, SLOW, FILE, FAIL_SAVE]'; fi
started=$(date +%s.%N)
"$toroid" launch --supervise --config "$config" --out "$work/chaos" --backoff 0.2 --give-up-after 10 --hang-after 8 \
  --set "faults.random={ mean_steps: $mean_steps seed: $seed kinds: $kinds }" >"$work/chaos.log" 2>&1 &
supervisor=$!

# From outside, every ten seconds or so. Only what descends from the supervisor is touched.
children() { pgrep -P "$1" || true; }
torment() {
  RANDOM=$seed
  while sleep "$((5 + RANDOM % 11))"; do
    local mpirun processes rank kind=$((RANDOM % 4)) pick=$((RANDOM % ranks))
    mpirun=$(children "$supervisor" | head -n 1)
    [ -n "$mpirun" ] || continue
    mapfile -t processes < <(children "$mpirun")
    rank=${processes[$pick]:-}
    case $kind in
      0) kill -KILL "$mpirun" 2>/dev/null && echo "mpirun killed" ;;
      1) [ -n "$rank" ] && kill -KILL "$rank" 2>/dev/null && echo "a rank killed" ;;
      2) [ -n "$rank" ] && kill -STOP "$rank" 2>/dev/null && echo "a rank stopped" ;;
      3) kill -USR1 "$mpirun" 2>/dev/null && echo "asked to save and start again" ;;
    esac || true
  done
}
torment >"$work/outside.log" &
gremlin=$!

end=$(awk -v m="$minutes" -v s="$started" 'BEGIN { printf "%d", s + 60 * m }')
while [ "$(date +%s)" -lt "$end" ] && kill -0 "$supervisor" 2>/dev/null; do sleep 0.5; done
kill "$gremlin" 2>/dev/null || true
wait "$gremlin" 2>/dev/null || true
gremlin=''
fail() { echo "chaos: $*" >&2; tail -n 40 "$work/chaos.log" >&2; exit 1; }
# A job that is ended between two starts has saved before: the supervisor ends with 75 either way. One that a fault befalls
# while it saves is started once more, to the end of what it had.
code=0
kill -TERM "$supervisor" 2>/dev/null || true
wait "$supervisor" || code=$?
supervisor=''
wall=$(awk -v a="$started" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')
case $code in
  75 | 1 | 3 | 76 | 143) ;;
  *) fail "the supervisor ended with $code" ;;
esac
steps=$(find "$work/chaos/checkpoints" -maxdepth 1 -name 'step-*' | sed 's/.*step-//' | sort -n)
[ -n "$steps" ] || fail "no checkpoint"

# To a whole number of saves, so that what the last fault has damaged comes again.
last=$(($(tail -n 1 <<<"$steps") / 25 * 25 + 25))
"$toroid" launch --config "$config" --resume "$work/chaos" --set "train.steps=$last" >>"$work/chaos.log" 2>&1 ||
  fail "the run does not go on"
calm_started=$(date +%s.%N)
"$toroid" launch --config "$config" --out "$work/calm" --set "train.steps=$last" >"$work/calm.log" 2>&1 ||
  { tail -n 20 "$work/calm.log" >&2; exit 1; }
calm=$(awk -v a="$calm_started" -v b="$(date +%s.%N)" 'BEGIN { print b - a }')

# Of every tensor, its name and its hash over all ranks' slices.
hashes() { tr -d ' \n' <"$1/checkpoints/step-$last/manifest.json" | grep -o '"tensors":\[.*' | sed 's/,"texts":.*//'; }
verdict=equal
[ -n "$(hashes "$work/calm")" ] || fail "no hashes"
[ "$(hashes "$work/calm")" = "$(hashes "$work/chaos")" ] || verdict=DIFFERENT

echo "faults from within:"
grep -o '"kind":"[A-Z_]*"' "$work/chaos/faults.jsonl" 2>/dev/null | cut -d'"' -f4 | sort | uniq -c | sed 's/^/  /' || true
echo "from outside:"
sort "$work/outside.log" | uniq -c | sed 's/^/  /'
echo "incidents:"
grep -o '"code":[0-9]*,"meaning":"[^"]*"' "$work/chaos/incidents.jsonl" | sed 's/"code"://; s/,"meaning":"/ /; s/"$//' |
  sort -n | uniq -c | sed 's/^/  /'
numbers() { { grep -o "\"$1\":[0-9.]*[0-9]" "$work/chaos/incidents.jsonl" || true; } | cut -d: -f2 | sort -n; }
numbers lost_steps | awk -v last="$last" '{ sum += $1; if ($1 > most) most = $1 }
  END { printf "steps: %d trained, %d lost and trained again, at most %d at a time\n", last, sum, most }'
numbers recovery_s | awk '{ sum += $1; all[NR] = $1 }
  END { if (NR) printf "recovery: median %.2f s, mean %.2f s, most %.2f s, from the end of a job to the next step\n",
        all[int((NR + 1) / 2)], sum / NR, all[NR] }'
grep -o '"step_s":[0-9.e-]*' "$work/chaos/metrics.jsonl" | cut -d: -f2 | awk -v wall="$wall" -v calm="$calm" '{ sum += $1 }
  END { printf "goodput: %.1f s of steps that counted in %.1f s: %.1f %%; undisturbed they took %.1f s\n", sum, wall,
        100 * sum / wall, calm }'
echo "final weights and moments of step $last: $verdict"
[ "$verdict" = equal ]
