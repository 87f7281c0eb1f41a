#!/usr/bin/env bash
# Times B1's training step (configs/bench_b1) side by side with Hugging Face's Gemma in PyTorch, alternating, and prints
# one line of JSON a run. A quiet machine is assumed; ratios of medians are what carries from machine to machine.
#
#   bench/compare_step.sh [ROUNDS] [THREADS]      3 rounds on 2 threads if not given
#
# PyTorch comes from PyPI into a virtual environment (TOROID_BENCH_VENV names one that exists already).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

rounds=${1:-3}
threads=${2:-2}
venv=${TOROID_BENCH_VENV:-.cache/bench-venv}
toroid=${TOROID:-build/release/bin/toroid}

if [ ! -x "$venv/bin/python" ]; then
  python3 -m venv "$venv"
  "$venv/bin/pip" install -q torch transformers
fi
for ((round = 1; round <= rounds; ++round)); do
  for remat in NONE CHEAP FULL; do
    echo "toroid $remat $(OMP_NUM_THREADS=$threads "$toroid" bench step --config configs/bench_b1.textproto \
      --set train.remat=$remat --steps 7 --no-floor --json)"
  done
  for mode in bf16 amp; do
    echo "torch $mode $(OMP_NUM_THREADS=$threads "$venv/bin/python" bench/peers/torch_gemma_step.py $mode sdpa 1 "$threads")"
  done
done
