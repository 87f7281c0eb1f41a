#!/usr/bin/env bash
# Installs what Toroid is built from, on Debian 12, with one call of apt-get; what is there already is skipped.
#
#   ./launch/install_dependencies.sh             what building and running needs
#   ./launch/install_dependencies.sh --test      and what the fast tests need
#   ./launch/install_dependencies.sh --lint      and clang-tidy
#   ./launch/install_dependencies.sh --slow      and what the slow tests and fuzzing need
#   ./launch/install_dependencies.sh --list      only says what each is for
#
# Runs as root or through sudo. The reasoning behind each choice: docs/dependencies.md.
set -euo pipefail

levels="build test lint slow"  # each with what those before it need
level=build
list_only=
for argument in "$@"; do
  case "$argument" in
    --test) level="test" ;;
    --lint) level=lint ;;
    --slow) level=slow ;;
    --list) list_only=yes ;;
    *) sed -n '2,10s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done

# level | package | why
table=$(cat <<'TABLE'
build | g++                        | the C++20 compiler (GCC 12), with OpenMP
build | cmake                      | configures the build
build | ninja-build                | runs it
build | pkg-config                 | finds libraries that ship no CMake file
build | git                        | the version that the program states
build | ca-certificates            | package downloads over https
build | libdnnl-dev                | oneDNN: matrix products on the CPU
build | ocl-icd-opencl-dev         | OpenCL's headers and loader, which oneDNN's CMake file asks for
build | libhwy-dev                 | Highway: vector kernels, one binary for every instruction set
build | libprotobuf-dev            | configuration messages
build | protobuf-compiler          | compiles the .proto files
build | libsentencepiece-dev       | the tokenizer: training and encoding
build | libxml2-dev                | text of HTML documents
build | libspdlog-dev              | the log
build | libcli11-dev               | the command line
build | nlohmann-json3-dev         | JSON: metrics, safetensors headers, manifests
build | libxxhash-dev              | hashes of files, tensors and documents
build | libzstd-dev                | .zst corpora
build | zlib1g-dev                 | .gz corpora
build | libssl-dev                 | libcrypto: authenticated questions between hosts
build | libeigen3-dev              | least squares: the constants of simulated chips
build | libopenmpi-dev             | MPI: several ranks
build | openmpi-bin                | mpirun, which starts them
test  | libgtest-dev               | the test framework
test  | clang-format-14            | the format test
lint  | clang-tidy-14              | lint
slow  | clang-14                   | the second compiler that must build everything; fuzzing
slow  | libomp-14-dev              | OpenMP for it
slow  | python3-venv               | a place for transformers from PyPI, which reads our exports
slow  | libbenchmark-dev           | timings of parts
slow  | slurmctld                  | a Slurm for the test of the Slurm script
slow  | slurmd                     | its daemon of a node
slow  | slurm-client               | sbatch and scontrol
slow  | munge                      | its authentication
slow  | openssh-server             | hosts for the test of the host-file script
slow  | iproute2                   | and the network between them
TABLE
)

rows() {  # the rows of the levels up to the chosen one
  echo "$table" | while IFS='|' read -r row_level package why; do
    row_level=${row_level// /} package=${package// /}
    [ -z "$row_level" ] || [[ " ${levels%"$level"*}$level " != *" $row_level "* ]] || echo "$package|${why# }"
  done
}

if [ -n "$list_only" ]; then
  level=slow
  rows | while IFS='|' read -r package why; do printf '  %-24s %s\n' "$package" "$why"; done
  exit 0
fi

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  echo "install_dependencies: this is not a Debian system (no apt-get). Install these yourself:" >&2
  rows | while IFS='|' read -r package why; do printf '  %-24s %s\n' "$package" "$why"; done >&2
  exit 1
fi

missing=()
while IFS='|' read -r package why; do
  state=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
  if [ "$state" != installed ]; then
    if [ ${#missing[@]} -eq 0 ]; then echo "Installing from Debian's packages:"; fi
    printf '  %-24s %s\n' "$package" "$why"
    missing+=("$package")
  fi
done < <(rows)

if [ ${#missing[@]} -eq 0 ]; then
  echo "Dependencies: all $(rows | wc -l) packages are installed."
  exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "install_dependencies: neither root nor sudo; as root run: apt-get install ${missing[*]}" >&2
    exit 1
  fi
  as_root=(sudo)
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
apt() {
  if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=120 \
      -o Acquire::Retries=3 "$@" >"$log" 2>&1; then
    cat "$log" >&2
    echo "install_dependencies: apt-get $1 failed (its output is above)" >&2
    exit 1
  fi
}
start=$(date +%s)
apt update
apt install -y --no-install-recommends "${missing[@]}"
echo "Dependencies: installed ${#missing[@]} packages (and what they need) in $(($(date +%s) - start)) s."
