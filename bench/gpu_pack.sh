#!/usr/bin/env bash
# Puts what bench/gpu.sh needs into one file, for a machine with a GPU on which nothing is built or installed: the programs
# of this build without their symbols, their libraries but for the C library's and NVIDIA's, configs and golden cases.
#
#   bench/gpu_pack.sh FILE.tar.xz             here, after a build with CUDA's toolkit
#   tar -xf FILE.tar.xz; toroid_gpu/run      there: bench/gpu.sh's table, and toroid_gpu/gpu_report.json
#
# `run COMMAND...` runs another command in its place, with the libraries found: run build/release/bin/toroid doctor. There,
# NVIDIA's libraries are looked for where the system's loader looks and among python3's packages; where python3 has torch and
# transformers, they are what gpu.sh compares with. Both machines need xz, and that one a C library that is not much older
# than this one's: `run` says so where it is.
set -euo pipefail
if [ $# != 1 ]; then
  sed -n 's/^#   //p' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
file=$(realpath "$1")
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=${TOROID_BUILD:-build/release}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/toroid_gpu
mkdir -p "$root/build/release/bin" "$root/build/release/tests" "$root/lib"

if ! command -v xz > /dev/null; then
  echo "xz is not installed, and packs the file; install xz-utils" >&2
  exit 2
fi
programs=("$build/bin/toroid")
for test in cuda_link_test contract_gpu_test golden_gpu_test; do programs+=("$build/tests/$test"); done
for program in "${programs[@]}"; do
  if [ ! -x "$program" ]; then
    echo "$program is not built; build the preset release with CUDA's toolkit" >&2
    exit 2
  fi
  strip -o "$root/build/release/${program#"$build"/}" "$program"
done
# Those of the C library fit the system's own loader, those of NVIDIA its driver.
ldd "${programs[@]}" | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libresolv|libutil|libcuda|libnccl|libcudnn.*|libcublas.*)\.so' |
  xargs -I{} cp -L {} "$root/lib/"
cp -r --parents bench/gpu.sh bench/peers configs tests/golden "$root/"
find "$root/tests/golden" \( -name '*.cpp' -o -name '*.h' -o -name CMakeLists.txt \) -delete

# The newest version of the C library that one of them wants.
find "$root/build" "$root/lib" -type f -exec objdump -T {} + | grep -oE 'GLIBC_[0-9.]+' | sort -uV | tail -1 |
  cut -d_ -f2 > "$root/glibc"

cat > "$root/run" <<'RUN'
#!/usr/bin/env bash
# Runs bench/gpu.sh, or the command that is given, with the libraries beside this file and NVIDIA's.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
wanted=$(< glibc) here=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
if [ "$(printf '%s\n' "$wanted" "$here" | sort -V | tail -1)" != "$here" ]; then
  echo "these programs want glibc $wanted or newer, and this machine has $here; build Toroid and pack it where it is older" >&2
  exit 2
fi
folders=$PWD/lib
export TOROID_BENCH_LIBRARIES=${LD_LIBRARY_PATH:-} # python3's own
if command -v python3 > /dev/null; then
  # pip's packages of NVIDIA's libraries are folders of one package.
  packages=$(python3 -c 'import importlib.util as u
found = u.find_spec("nvidia")
print("\n".join(found.submodule_search_locations) if found else "")' 2> /dev/null || true)
  if [ -n "$packages" ]; then
    for name in libcublasLt.so.13 libcudnn.so.9 libnccl.so.2; do
      found=$(xargs -I{} find {} -name "$name" <<< "$packages" 2> /dev/null | head -1 || true)
      if [ -n "$found" ]; then folders=$folders:$(dirname "$found"); fi
    done
  fi
  if python3 -c 'import torch, transformers' 2> /dev/null; then
    TOROID_BENCH_VENV=${TOROID_BENCH_VENV:-$(python3 -c 'import sys; print(sys.prefix)')}
    export TOROID_BENCH_VENV
  fi
fi
export LD_LIBRARY_PATH=$folders${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
if [ $# -gt 0 ]; then exec "$@"; fi
exec bench/gpu.sh
RUN
chmod +x "$root/run"
XZ_OPT=-T0 tar -C "$work" -cJf "$file" toroid_gpu
echo "$file: $(du -m "$file" | cut -f1) MB"
