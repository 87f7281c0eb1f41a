#!/usr/bin/env bash
# Loss at equal tokens and at equal time under several optimizers and learning rates, on the quick start's text
# (docs/optimizers.md). Prints a line a run as it ends: model, optimizer, peak rate, steps, seed, validation loss, seconds
# of training; and at the end the table, best first. Runs that a file already holds are not made again.
#
#   bench/optimizers.sh MODEL [RUN...]
#
#   MODEL       small: 1.4 M parameters, 1.0 M of them the embedding, one rank; its 13 runs of 200 steps take 7 minutes
#               quickstart: the quick start's, four ranks; its 11 runs, 5500 steps in all, some 45 minutes (by seven of them)
#               (both on two cores of an AMD EPYC with AVX-512 bf16 that do nothing else)
#   RUN         RULE:RATE[/EMBEDDING_RATE]:STEPS[:SEED], with an embedding rate for muon: what AdamW moves there, embedding
#               and norms, has it in place of RATE. Without RUNs, the sweep of docs/optimizers.md
#
# Needs ./launch/quickstart.sh to have prepared the text. Results: .cache/optimizers/MODEL.tsv, and as a picture of the best
# run of each rule and number of steps, .cache/optimizers/MODEL.svg
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ $# -gt 0 ] || { sed -n '2,15s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; }
model=$1
shift
toroid=${TOROID:-build/release/bin/toroid}
out=.cache/optimizers
mkdir -p "$out"
table=$out/$model.tsv
touch "$table"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # mpirun asks root twice

sets=(--config configs/quickstart.textproto --set train.validate.every=100 --set train.checkpoint.every=0)
case $model in
  small)
    run=("$toroid" train)
    sets+=(--set 'mesh={}' --set batch.sequences_per_replica=8 --set model.d_model=128 --set model.layers=2
      --set model.heads=2 --set model.ffn=384)
    runs=(adamw:1.25e-3:200 adamw:2.5e-3:200 adamw:5e-3:200 adamw:1e-2:200 muon:5e-3/1e-2:200 muon:1e-2/2.5e-3:200
      muon:1e-2/1e-2:200 muon:1e-2/2e-2:200 muon:2e-2/2e-2:200 muon:2e-2/4e-2:200
      lion:5e-4:200 lion:1e-3:200 lion:2e-3:200)
    ;;
  quickstart)
    run=("$toroid" launch)
    runs=(adamw:1.25e-3:600 adamw:2.5e-3:600 adamw:5e-3:600 muon:1e-2/2e-2:400 muon:5e-3/1e-2:400 muon:2e-2/2e-2:400
      muon:1e-2/2e-2:300 lion:1e-3:600 lion:2e-3:600 adamw:2.5e-3:600:2 muon:1e-2/2e-2:400:2)
    ;;
  *)
    echo "optimizers: no model '$model'; there are small and quickstart" >&2
    exit 2
    ;;
esac
[ $# -eq 0 ] || runs=("$@")

for spec in "${runs[@]}"; do
  IFS=: read -r optimizer rates steps seed <<<"$spec"
  seed=${seed:-1}
  if grep -q "^$model	$optimizer	$rates	$steps	$seed	" "$table"; then continue; fi
  rate=${rates%/*}
  numbers="weight_decay: 0.1"
  [ "$optimizer" != muon ] || numbers+=" momentum: 0.9" # 0.95, the default, was worse on so few steps
  [ "$rates" = "$rate" ] || numbers+=" adamw_rate: $(awk -v e="${rates#*/}" -v r="$rate" 'BEGIN { print e / r }')"
  rule="optim.$optimizer={ $numbers }"
  begin=$(date +%s.%N)
  "${run[@]}" "${sets[@]}" --set "$rule" --set "optim.schedule.cosine.peak=$rate" --set train.steps="$steps" \
    --set train.seed="$seed" --out "$out/run" --again >"$out/log" 2>&1 ||
    { tail -5 "$out/log" >&2; exit 1; }
  seconds=$(awk -v a="$begin" -v b="$(date +%s.%N)" 'BEGIN { printf "%.0f", b - a }')
  cp "$out/run/metrics.jsonl" "$out/$model-$optimizer-${rates//\//-}-$steps-$seed.jsonl"
  loss=$(grep -o '"validation_loss": *[0-9.]*' "$out/run/metrics.jsonl" | tail -1 | grep -o '[0-9.]*$')
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$model" "$optimizer" "$rates" "$steps" "$seed" "$loss" "$seconds" | tee -a "$table"
done

echo
printf '%-12s %-8s %16s %6s %5s %9s %8s\n' model rule "rate/embedding's" steps seed loss seconds
sort -t'	' -k4,4n -k6,6g "$table" | awk -F'\t' '{ printf "%-12s %-8s %16s %6s %5s %9.4f %8s\n", $1, $2, $3, $4, $5, $6, $7 }'

# The best of each rule and number of steps.
curves=()
while IFS=$'\t' read -r _ optimizer rates steps seed _; do
  curves+=("$optimizer, rate $rates, $steps steps=$out/$model-$optimizer-${rates//\//-}-$steps-$seed.jsonl")
done < <(sort -t'	' -k2,2 -k4,4n -k6,6g "$table" | awk -F'\t' '$5 == 1 && !seen[$2, $4]++')
"$toroid" curves "${curves[@]}" --out "$out/$model.svg"
