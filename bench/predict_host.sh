#!/usr/bin/env bash
# Holds the step that the simulator's chip `host` predicts against the step itself: B1 (configs/bench_b1) and a second
# model (configs/bench_predict), each as 1 rank of 2 threads, 2 ranks of 1 and 4 ranks of 1, alternating. Prints one line
# of JSON a run and then a table: medians over the rounds, the error of the prediction, and by how much the rounds
# differ. The peak is what a rank allocated; what it reads of its peers counts as resident, too. A quiet machine is assumed, and `toroid doctor` and `toroid bench collectives --write` on it before.
#
#   bench/predict_host.sh [ROUNDS] [STEPS] [CASE...]      3 rounds of 3 steps of all cases if not given
#
# CASE is MODEL:RANKSxTHREADS, such as bench_b1:2x1.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-3}
steps=${2:-3}
cases=("${@:3}")
[ ${#cases[@]} -gt 0 ] || cases=(bench_b1:1x2 bench_predict:1x2 bench_b1:2x1 bench_predict:2x1 bench_b1:4x1 bench_predict:4x1)
toroid=${TOROID:-build/release/bin/toroid}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # mpirun asks root twice

run() { # MODEL RANKS THREADS
  local sequences=4
  [ "$1" = bench_b1 ] || sequences=8
  local step=("$toroid" bench step --config "configs/$1.textproto" --steps "$steps" --no-floor --json)
  if [ "$2" = 1 ]; then
    OMP_NUM_THREADS=$3 "${step[@]}"
  else
    mpirun -n "$2" --bind-to none --oversubscribe -x OMP_NUM_THREADS="$3" "${step[@]}" --set "mesh.torus=[$2]" \
      --set mesh.data="$2" --set batch.sequences_per_replica=$((sequences / $2))
  fi
}

field() { grep -oE "\"$1\": *-?[0-9.eE+-]+" | sed 's/.*: *//'; }

lines=$(mktemp)
trap 'rm -f "$lines"' EXIT
for ((round = 1; round <= rounds; ++round)); do
  for case in "${cases[@]}"; do
    layout=${case#*:}
    json=$(run "${case%:*}" "${layout%x*}" "${layout#*x}")
    echo "$case $json"
    echo "$case $(field median_s <<<"$json") $(field simulated_s <<<"$json") $(field peak_rss_gb <<<"$json") \
$(field allocated_gb <<<"$json") $(field simulated_gb <<<"$json")" >>"$lines"
  done
done

sort -k1,1 -k2,2g "$lines" | awk '
  function flush() {
    if (name == "") return
    median = time[int((n - 1) / 2) + 1]
    printf "%-20s %9.3f %9.3f %+8.1f %% %8.1f %% %9.3f %9.3f %9.3f %+8.1f %%\n", name, median, simulated,
           100 * (simulated / median - 1), 100 * (time[n] - time[1]) / median, rss, allocated, predicted,
           100 * (predicted / allocated - 1)
  }
  BEGIN { printf "%-20s %9s %9s %10s %10s %9s %9s %9s %10s\n", "ranks x threads", "step s", "simulated", "error",
                 "spread", "resident", "peak GB", "simulated", "error" }
  $1 != name { flush(); name = $1; n = 0 }
  NF < 6 { print "no prediction of " $1 ": run `toroid doctor` first"; exit 1 }
  { time[++n] = $2; simulated = $3; rss = $4; allocated = $5; predicted = $6 }
  END { flush() }'
