#!/bin/sh
# faults_test.sh PROGRAM [WAY...]: one rank of four is killed, stopped, skips a collective or brings another size. Each
# time the job must end within its deadline (2 s) and a few seconds, name rank 1, give the exit code, and leave nothing
# behind.
# mpirun itself gives 137 for a rank that was killed, whatever the others say.
program=$1
shift
[ $# -gt 0 ] || set -- memory messages
here=$(dirname "$0")
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

complain() {
  echo "$fault by $way: $1" >&2
  failed=1
}

for way in "$@"; do
  for fault in killed stopped skips size; do
    case $fault in
      killed) code=137 report='rank 1 (data 1, model 0) is gone' ;;
      stopped) code=76 report='not arrived: rank 1 (data 1, model 0) \[stopped by a signal; has done call 10' ;;
      skips) code=76 report="rank 1 issued all_reduce of 'gradients 11'" ;;
      size) code=76 report='rank 1 issued all_reduce of .* (3,996 bytes) where ranks 0, 2, 3' ;;
    esac
    timeout 20 "$here/run_ranks.sh" 4 "$program" "$fault" "$way" >"$log" 2>&1
    got=$?
    [ $got -eq $code ] || complain "exit code $got instead of $code"
    grep -q "$report" "$log" || { complain "nothing says: $report"; cat "$log" >&2; }
    left=$(ps -eo stat=,args= | grep -v '^Z' | grep -F "$program $fault $way" | grep -v -e grep -e faults_test)
    [ -z "$left" ] || complain "processes are left: $left"
    left=$(find /dev/shm -name 'toroid-[0-9]*-????????????????' 2>/dev/null)
    [ -z "$left" ] || complain "shared memory is left: $left"
  done
done
exit $failed
