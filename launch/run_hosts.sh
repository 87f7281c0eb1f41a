#!/usr/bin/env bash
# Trains on the hosts of a file: OpenMPI's format, `NAME slots=N` a line, neighbours on the torus in the file's order.
#
#   ./launch/run_hosts.sh CONFIG RUN_DIRECTORY HOST_FILE [FLAGS OF toroid launch]
#
# Each host needs: ssh without a password, this directory and RUN_DIRECTORY at the same path (a shared file system), and
# OpenMPI. Where hosts have several networks, name the one to use:
#   OMPI_MCA_btl_tcp_if_include=10.0.0.0/16 OMPI_MCA_oob_tcp_if_include=10.0.0.0/16 ./launch/run_hosts.sh ...
set -euo pipefail

if [ $# -lt 3 ]; then sed -n '2,8s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2; fi
config=$1 run=$2 file=$3
shift 3
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TOROID=$(realpath "${TOROID:-$here/../build/release/bin/toroid}")
export TOROID

hosts=$(awk '{ sub(/#.*/, "") }
  NF { slots = 1; for (i = 2; i <= NF; ++i) if ($i ~ /^slots=[0-9]+$/) slots = substr($i, 7)
       list = list (list == "" ? "" : ",") $1 ":" slots }
  END { print list }' "$file")
if [ -z "$hosts" ]; then echo "run_hosts: $file names no host" >&2; exit 2; fi

# A host that asks for a password or has another build would show only as a job that hangs or differs.
mkdir -p "$run"
want=$(sha256sum <"$TOROID")
for host in ${hosts//,/ }; do
  host=${host%:*}
  if ! have=$(ssh -n -o BatchMode=yes -o ConnectTimeout=10 "$host" "test -d '$(realpath "$run")' && sha256sum <'$TOROID'"); then
    echo "run_hosts: $host: ssh without a password failed, or $TOROID or $run is not there" >&2
    exit 3
  fi
  if [ "$have" != "$want" ]; then echo "run_hosts: $host has another build of $TOROID" >&2; exit 3; fi
done

# mpirun starts its daemons with ssh too; it must not stop at a question either.
export OMPI_MCA_plm_rsh_args=${OMPI_MCA_plm_rsh_args:--o BatchMode=yes}
exec "$here/run_local.sh" "$config" "$run" --hosts "$hosts" "$@"
