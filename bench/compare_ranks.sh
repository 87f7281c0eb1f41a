#!/usr/bin/env bash
# Times ranks that share this machine, alternating with their peers, and prints one line of JSON a measurement:
# collectives on 2 and 4 ranks beside OpenMPI's own and Gloo's; B1's step (configs/bench_b1) on 2 ranks of one thread
# beside one process of two threads and PyTorch's FSDP2 on 2 ranks. A quiet machine is assumed.
#
#   bench/compare_ranks.sh [ROUNDS] [collectives|step]      3 rounds of both if not given
#
# PyTorch comes from PyPI into a virtual environment (TOROID_BENCH_VENV names one that exists already).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-3}
what=${2:-both}
venv=${TOROID_BENCH_VENV:-.cache/bench-venv}
toroid=${TOROID:-build/release/bin/toroid}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 # mpirun asks root twice

if [ ! -x "$venv/bin/torchrun" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q torch transformers
fi

torch_ranks() { # RANKS SCRIPT ARGUMENT...
  OMP_NUM_THREADS=1 "$venv/bin/torchrun" --nproc_per_node "$1" "bench/peers/$2" "${@:3}"
}

collectives() { # RANKS
  "$toroid" bench collectives --shape "1x$1" --sizes 64K,1M,4M,16M,64M,256M --rounds 5 --json
  torch_ranks "$1" torch_gloo_collectives.py 65536 1048576 4194304 16777216 67108864 268435456
}

step() {
  echo "1x2 $(OMP_NUM_THREADS=2 "$toroid" bench step --config configs/bench_b1.textproto --steps 3 --no-floor --json)"
  echo "2x1 $(mpirun -n 2 --bind-to none -x OMP_NUM_THREADS=1 "$toroid" bench step --config configs/bench_b1.textproto \
    --set 'mesh.torus=[2]' --set mesh.data=2 --set batch.sequences_per_replica=2 --steps 3 --no-floor --json)"
}

for ((round = 1; round <= rounds; ++round)); do
  if [ "$what" != step ]; then
    collectives 2
    collectives 4
  fi
  if [ "$what" != collectives ]; then
    step
    echo "fsdp2 $(torch_ranks 2 torch_fsdp2_step.py)"
  fi
done
