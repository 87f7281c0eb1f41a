#!/usr/bin/env bash
# Trains a tiny model on a pod of many ranks that share this machine, and prints one line a run: seconds until all
# ranks have started, the median step after the first and the first in seconds, and by how much the memory available
# to programs fell at most. A quiet machine is assumed.
#
#   bench/pod.sh [ROUNDS] [ROWS] [COLUMNS]      3 rounds of 16 x 16 if not given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-3}
rows=${2:-16}
columns=${3:-16}
ranks=$((rows * columns))
toroid=${TOROID:-build/release/bin/toroid}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # mpirun asks root twice

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
cp docs/*.md "$work/corpus"
cat > "$work/pod.textproto" << CONFIG
model { d_model: 32 layers: 2 heads: 4 kv_heads: 1 head_dim: 16 ffn: 48 vocab: 640 }
mesh { torus: [$rows, $columns] data: $ranks }
batch { tokens_per_sequence: 32 global_sequences: $ranks sequences_per_replica: 1 }
optim { schedule { constant { peak: 1e-3 } } }
train { steps: 12 seed: 3 threads: 1 log { every: 1 } }
data { directory: "$work/data" corpus: "$work" tokenizer { train { vocab: 640 } }
       source { name: "text" path: "corpus" format: TEXT } }
CONFIG
"$toroid" prepare --config "$work/pod.textproto" > "$work/prepare.log" 2>&1 || { code=$?; cat "$work/prepare.log" >&2; exit $code; }

available() { awk '/^MemAvailable/ { print int($2 / 1024) }' /proc/meminfo; }

for ((round = 1; round <= rounds; ++round)); do
  out="$work/run$round"
  before=$(available)
  least=$before
  begin=$EPOCHREALTIME
  started=
  "$toroid" launch --config "$work/pod.textproto" --out "$out" > "$work/log" 2>&1 &
  job=$!
  while kill -0 $job 2> /dev/null; do
    now=$(available)
    if [ "$now" -lt "$least" ]; then least=$now; fi
    if [ -z "$started" ] && grep -q " $ranks ranks" "$work/log"; then
      started=$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }')
    fi
    sleep 0.2
  done
  wait $job || { code=$?; cat "$work/log" >&2; exit $code; }
  steps=$(sed -n 's/.*"step_s":\([0-9.e-]*\).*/\1/p' "$out/metrics.jsonl")
  first=$(head -1 <<< "$steps")
  median=$(tail -n +2 <<< "$steps" | sort -g | awk '{ s[NR] = $1 } END { print s[int((NR + 1) / 2)] }')
  printf '%d ranks: started %s s, step %.2f s, first %.2f s, memory %d MiB\n' "$ranks" "${started:-?}" "$median" "$first" \
    $((before - least))
done
