#!/usr/bin/env bash
# launch/run_hosts.sh over two hosts that this machine plays: network namespaces joined by a veth pair, each with its own
# host name, /dev/shm and sshd; MPI goes over TCP. Needs root, openssh-server and iproute2; skipped (77) without.
# Usage: hosts_test.sh PROGRAM
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/launch/tiny_run.sh
source "$repository/tests/launch/tiny_run.sh"
# shellcheck source=tests/launch/two_hosts.sh
source "$repository/tests/launch/two_hosts.sh"
TOROID=$(realpath "$1")
export TOROID

in_own_namespaces sshd ssh ip mpirun -- "$0" "$@"

work=$(mktemp -d)
trap 'rm -rf "$work" 2>/dev/null || true' EXIT
two_hosts "$work"

tiny_run "$work" 100
printf '# two hosts of one rank\nhost0 slots=1\nhost1 slots=1\n' >"$work/hostfile"
cd "$repository"
start() { on_host 0 ./launch/run_hosts.sh "$work/run.textproto" "$work/run" "$work/hostfile" "$@"; }

sent() { ip netns exec host0 cat /sys/class/net/veth0/statistics/tx_bytes; }
before=$(sent)
start >"$work/log" 2>&1 || {
  cat "$work/log" "$work"/sshd*.log
  fail "the run over two hosts"
}
[ "$(newest_step "$work/run")" = 100 ] || { cat "$work/log"; fail "no checkpoint of the last step"; }
check_rows "$work/run" 100
bytes=$(($(sent) - before))
# 36,000 parameters gathered and reduced in fp32 for 100 steps are megabytes; ssh alone is kilobytes.
[ "$bytes" -gt 5000000 ] || fail "only $bytes bytes went between the hosts"
nothing_left "$work"

# SIGTERM to the launcher: the rank of the other host saves too, and the same line goes on.
sed -i 's/steps: 100/steps: 1000000/' "$work/run.textproto"
start >"$work/log" 2>&1 &
for ((i = 0; i < 60; ++i)); do
  if grep -q '^step: ' "$work/log"; then break; fi
  sleep 1
done
pkill -TERM -f "^$TOROID launch " || fail "no launcher to signal"
code=0
wait $! || code=$?
[ "$code" = 75 ] || { cat "$work/log"; fail "a signal ended the run with $code and not 75"; }
step=$(newest_step "$work/run")
nothing_left "$work"
sed -i "s/steps: 1000000/steps: $((step + 20))/" "$work/run.textproto"
start >"$work/log" 2>&1 || { cat "$work/log"; fail "the run did not go on"; }
check_rows "$work/run" $((step + 20))
nothing_left "$work"

echo 'host2 slots=1' >"$work/nobody"
code=0
on_host 0 ./launch/run_hosts.sh "$work/run.textproto" "$work/run" "$work/nobody" >"$work/log" 2>&1 || code=$?
{ [ "$code" = 3 ] && grep -q 'run_hosts: host2' "$work/log"; } || { cat "$work/log"; fail "a host that is not there"; }
echo "two hosts, $bytes bytes between them, saved step $step on a signal, went on to $((step + 20))"
