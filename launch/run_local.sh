#!/usr/bin/env bash
# Trains on this machine: one rank for each chip of the config's mesh, started by `toroid launch` (mpirun).
#
#   ./launch/run_local.sh CONFIG RUN_DIRECTORY [FLAGS OF toroid launch]
#   ./launch/run_local.sh configs/quickstart.textproto runs/quickstart
#
# A run that has a checkpoint goes on from its newest one, so the same line starts and restarts. SIGTERM and SIGUSR1 save
# first; exit code 75 says so (docs/exit_codes.md). TOROID names the program, if it is not the release build's.
set -euo pipefail

if [ $# -lt 2 ]; then sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; fi
config=$1 run=$2
shift 2
toroid=${TOROID:-$(dirname "${BASH_SOURCE[0]}")/../build/release/bin/toroid}

# With the config as well: what may change between two starts (steps, layout, logging) is read from it again.
mode=(--out "$run")
if compgen -G "$run/checkpoints/step-*" >/dev/null; then
  mode=(--resume "$run")
elif [ -d "$run" ]; then
  mode+=(--again)  # ended before its first checkpoint: nothing to keep
fi
exec "$toroid" launch --config "$config" "${mode[@]}" "$@"
