# Sourced by the other scripts: `source scripts/env.sh [RANKS]`. Lets Open MPI start any number of ranks on any machine,
# and shares the cores among RANKS ranks. Whatever the caller has set already stays.

# As root (containers, CI) mpirun refuses to start without these two.
if [ "$(id -u)" = 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
# More ranks than cores, and ranks that wait give their core away: without it an 8-rank barrier on two cores takes tens
# of milliseconds. Binding would put a rank and its communication threads on one core. Open MPI 4 reads OMPI_MCA_*; the
# launcher of Open MPI 5 is PRRTE, with names of its own.
export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle:-1}"
export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe:-1}"
export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy:-:oversubscribe}"
export OMPI_MCA_hwloc_base_binding_policy="${OMPI_MCA_hwloc_base_binding_policy:-none}"
export PRTE_MCA_hwloc_default_binding_policy="${PRTE_MCA_hwloc_default_binding_policy:-none}"
# Open MPI 5 warns once for every pair of ranks where an interface has IPv6 beside IPv4. 4 or 6: the family not to use.
export OMPI_MCA_btl_tcp_disable_family="${OMPI_MCA_btl_tcp_disable_family:-6}"
# After Ctrl-C, and after a failure of one rank, mpirun sends the ranks SIGCONT, waits this many seconds, sends SIGTERM,
# waits as long again and kills. At SIGTERM a rank finishes its step and saves; the default, 1 s, is too short for that,
# and a long wait holds up every job that fails (Open MPI waits it out even when nobody is left).
export OMPI_MCA_odls_base_sigkill_timeout="${OMPI_MCA_odls_base_sigkill_timeout:-4}"

# Without RANKS, bash shows a sourced file the caller's own arguments.
if [[ ${1:-} =~ ^[1-9][0-9]*$ ]] && [ -z "${OMP_NUM_THREADS:-}" ]; then
  OMP_NUM_THREADS=$(($(nproc) / $1))
  [ "$OMP_NUM_THREADS" -ge 1 ] || OMP_NUM_THREADS=1
  export OMP_NUM_THREADS
fi
