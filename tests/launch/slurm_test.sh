#!/usr/bin/env bash
# launch/slurm.sbatch under a real Slurm on this machine, without systemd: a training of two ranks outlives its time limit
# (a signal before it saves, the requeued job goes on) and ends. Some five minutes. Needs root and Debian's slurmctld,
# slurmd, slurm-client and munge; skipped (77) without. Usage: slurm_test.sh PROGRAM
set -euo pipefail
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=tests/launch/tiny_run.sh
source "$repository/tests/launch/tiny_run.sh"
TOROID=$(realpath "$1")
export TOROID

in_own_namespaces slurmctld slurmd sbatch munged mpirun ip -- "$0" "$@"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
hostname toroid0
ip link set lo up
# Slurm looks for addresses with AI_ADDRCONFIG, to which the loopback alone is no network.
ip link add net0 type veth peer name net1 || skip "no veth pairs"
ip addr add 10.77.0.1/24 dev net0
ip link set net0 up
ip link set net1 up
for directory in /dev/shm /run/munge /etc/munge /var/lib/munge /var/log/munge; do
  mkdir -p "$directory"
  mount -t tmpfs none "$directory"
done
printf '127.0.0.1 localhost\n10.77.0.1 toroid0\n' >"$work/hosts"
mount --bind "$work/hosts" /etc/hosts

dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none
chown -R munge: /etc/munge /run/munge /var/lib/munge /var/log/munge
chmod 700 /etc/munge
chmod 400 /etc/munge/munge.key
chmod 755 /run/munge
setpriv --reuid munge --regid munge --clear-groups munged

mkdir -p "$work/state" "$work/spool"
# cred_expire: a requeued job waits for its credential to expire, two minutes by default.
cat >"$work/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=toroid0
AuthType=auth/munge
AuthInfo=cred_expire=5
SlurmUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.pid
SlurmctldLogFile=$work/slurmctld.log
SlurmdLogFile=$work/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
NodeName=toroid0 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE OverSubscribe=YES State=UP
CONF
export SLURM_CONF=$work/slurm.conf
slurmctld
slurmd
for ((i = 0; i < 60; ++i)); do
  if [ "$(sinfo -h -o %T 2>/dev/null)" = idle ]; then break; fi
  sleep 1
done
[ "$(sinfo -h -o %T)" = idle ] || { tail -n 20 "$work"/*.log; fail "Slurm's node did not come up"; }

tiny_run "$work" 1000000  # longer than any limit
cd "$repository"
job=$(sbatch --parsable --nodes 1 --ntasks-per-node 1 --overcommit --time 2 --signal B:USR1@30 --output "$work/job.log" \
  launch/slurm.sbatch "$work/run.textproto" "$work/run")

wait_for() {  # SECONDS TEXT COMMAND
  local limit=$((SECONDS + $1)) text=$2
  shift 2
  until "$@"; do
    [ $SECONDS -lt $limit ] || { cat "$work/job.log"; scontrol show job "$job"; fail "$text"; }
    sleep 1
  done
}
saved() { grep -q 'start 0 ended with 75' "$work/job.log" 2>/dev/null; }
ended() { [ "$(scontrol show job "$job" | grep -o 'JobState=[A-Z]*')" = JobState=COMPLETED ]; }

wait_for 150 "the signal before the limit did not save" saved
step=$(newest_step "$work/run")
[ -n "$step" ] || fail "no checkpoint"
nothing_left /dev/shm
last=$((step + 50))
sed -i "s/steps: 1000000/steps: $last/" "$work/run.textproto"  # read again by the next start
wait_for 240 "the requeued job did not end" ended
# Slurm may signal up to a minute early, so the step to stop at can be written too late for the next start.
grep -Eq 'start [1-9] ended with 0' "$work/job.log" || { cat "$work/job.log"; fail "the requeued job did not end well"; }
[ "$(newest_step "$work/run")" = "$last" ] || fail "the last checkpoint is not of step $last"
check_rows "$work/run" "$last"
nothing_left /dev/shm
echo "saved step $step before the limit, requeued, ended at step $last"
