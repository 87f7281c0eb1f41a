#!/usr/bin/env bash
# hosts_test.sh PROGRAM: four ranks on two hosts (tests/launch/two_hosts.sh), of which ranks 2 and 3 are on host1. One of
# those or both skip a collective, bring another size, are stopped or killed; the job must end in time with its exit
# code, leave nothing behind, and rank 0 of the other host must say who it was (where mpirun lets it: it kills all ranks
# as soon as one was killed). Needs root, openssh-server and iproute2; skipped (77) without.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/launch/tiny_run.sh
source "$here/../../launch/tiny_run.sh"
# shellcheck source=tests/launch/two_hosts.sh
source "$here/../../launch/two_hosts.sh"
program=$(realpath "$1")

in_own_namespaces sshd ssh ip mpirun -- "$0" "$@"

work=$(mktemp -d)
trap 'rm -rf "$work" 2>/dev/null || true' EXIT
two_hosts "$work"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

failed=0
complain() {
  echo "$*" >&2
  cat "$work/log" >&2
  failed=1
}

# expect CODE REPORT FAULT WAY RANK...
expect() {
  local code=$1 report=$2 got=0 left
  shift 2
  on_host 0 timeout 60 mpirun -n 4 --host host0:2,host1:2 --mca pml ob1 --mca btl tcp,vader,self --mca osc ^ucx \
    --mca mpi_yield_when_idle 1 --bind-to none --oversubscribe "$program" "$@" >"$work/log" 2>&1 || got=$?
  [ "$got" = "$code" ] || complain "$*: exit code $got instead of $code"
  grep -q -- "$report" "$work/log" || complain "$*: nothing says: $report"
  if [ -n "${TOROID_TEST_SHOW:-}" ]; then echo "== $*"; grep '^toroid: rank' "$work/log" || true; fi
  for ((i = 0; i < 20; ++i)); do
    left=$(ps -eo stat=,args= | grep -v '^Z' | grep -F -e "$program" -e orted | grep -v -e grep -e hosts_test || true)
    left+=$(find "$work"/shm? -name 'toroid*' -o -name 'vader_segment*')
    if [ -z "$left" ]; then return; fi
    sleep 0.5
  done
  complain "$*: left behind: $left"
}

for way in memory messages; do
  expect 76 "rank 3 issued all_reduce of 'gradients 11' (4,000 bytes) where ranks 0, 1, 2 issued" skips $way 3
  expect 76 "rank 0: mismatched.* number 11: ranks 0, 1 issued all_reduce of 'gradients 10' .* where ranks 2, 3 issued" skips $way 2 3
  expect 76 "rank 3 issued all_reduce of 'gradients 10' (3,996 bytes) where ranks 0, 1, 2 issued" size $way 3
  for rank in 2 3; do
    expect 76 "rank 0: a deadline expired.*not arrived: rank $rank (data $rank, model 0) on host1 \[stopped by a signal; has done call 10" \
      stopped $way $rank
  done
  expect 76 "rank 0: a deadline expired.*host host1 does not answer (connected, but no answer in time): nothing is known of ranks 2, 3" \
    stopped $way 2 3
  expect 137 'rank 3 (data 3, model 0) is gone' killed $way 3
done
exit $failed
