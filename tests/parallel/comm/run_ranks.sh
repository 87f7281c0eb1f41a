#!/bin/sh
# run_ranks.sh RANKS PROGRAM [ARGUMENT...]: PROGRAM under mpirun on this machine, with what OpenMPI wants there.
# Not pmix_base_async_modex: it starts hundreds of ranks sooner, but now and then one finds its peers unknown.
ranks=$1
shift
# OpenMPI leaves memory behind in components that it has unloaded, so a leak has no name to suppress it by here; those of
# the communicators show where ranks are threads (comm_test).
export ASAN_OPTIONS="${ASAN_OPTIONS:+$ASAN_OPTIONS:}detect_leaks=0"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
exec mpirun -n "$ranks" --mca pml ob1 --mca btl vader,self --mca osc ^ucx \
  --mca mpi_yield_when_idle 1 --bind-to none --oversubscribe "$@"
