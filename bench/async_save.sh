#!/usr/bin/env bash
# What a save behind the steps costs them: a run of 40 M parameters on one rank that saves every 60 steps, and the median
# step with a save under way over the median of the others. Also how long the run waited for the copy of its state, beside
# what such a copy takes at the machine's copy rate, and what detectors cost. A quiet machine is assumed.
#
#   bench/async_save.sh [STEPS] [TOROID TRAIN FLAGS...]      240 steps if not given
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

steps=${1:-240}
toroid=${TOROID:-build/release/bin/toroid}
work=$(mktemp -d "${TMPDIR:-/tmp}/async_save.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/corpus"
awk -v out="$work/corpus" 'BEGIN {
  split("ka to mi ren sol bar du fen gri lo hux pan qui ves wy zan cho je", s, " "); srand(7)
  for (f = 1; f <= 300; ++f) {
    name = out "/" f ".txt"
    for (w = 0; w < 1500; ++w) {
      word = ""
      for (i = 0; i <= int(rand() * 4); ++i) word = word s[1 + int(rand() * 18)]
      printf "%s ", word > name
    }
    print "" > name; close(name)
  } }'
cat >"$work/run.textproto" <<CONFIG
model { d_model: 768  layers: 6  heads: 6  kv_heads: 1  head_dim: 128  ffn: 2304  vocab: 2048 }
batch { tokens_per_sequence: 256  global_sequences: 2  sequences_per_replica: 1 }
optim { adamw {}  schedule { constant { peak: 1e-4 } } }
train { steps: $steps  checkpoint { every: 60  keep: 2  async: true } }
data { directory: "$work/data"  corpus: "$work/corpus"  tokenizer { train { vocab: 2048 } }
       source { name: "text"  path: "."  format: TEXT } }
CONFIG
"$toroid" prepare --config "$work/run.textproto" >"$work/log" 2>&1 || { cat "$work/log"; exit 3; }
"$toroid" train --config "$work/run.textproto" --out "$work/run" "${@:2}" >"$work/log" 2>&1 || { cat "$work/log"; exit 3; }
grep -oE "(saved step|detectors,).*" "$work/log" | sed "s|$work/||"
grep '"step_s"' "$work/run/metrics.jsonl" | tail -n +4 |
  sed -E 's/.*"step_s":([0-9.e+-]+).*"saving":(true|false).*/\2 \1/' | sort -k1,1 -k2,2g | awk '
    { value[$1, ++count[$1]] = $2 }
    function median(of) { return (value[of, int((count[of] + 1) / 2)] + value[of, int(count[of] / 2) + 1]) / 2 }
    END {
      if (!count["true"] || !count["false"]) { print "no step with, or none without, a save under way"; exit 1 }
      with = median("true"); without = median("false")
      printf "steps with a save under way  %4d  median %.4f s\n", count["true"], with
      printf "others                       %4d  median %.4f s\n", count["false"], without
      printf "with over without                  %+.1f %%\n", 100 * (with / without - 1)
    }'
