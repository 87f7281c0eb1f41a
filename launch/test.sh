#!/usr/bin/env bash
# Installs what is missing, builds, and runs the tests.
#
#   ./launch/test.sh                  the fast suite, release build
#   ./launch/test.sh --preset NAME    the same in another build: debug, asan, clang; tsan (tests of threaded code),
#                                     fuzz (each fuzz target for 20 s); see CMakePresets.json
#   ./launch/test.sh --folder DIR     only what lies below tests/DIR; only that is built; may be given again
#   ./launch/test.sh --slow           everything: fast and slow tests, then each of those builds; more than an hour
#   ./launch/test.sh -- ARGUMENTS     what follows goes to ctest, e.g. -- -R golden -V
#
# CTest's closing lines come last. JOBS=N sets how many compilers and tests run at a time (default: the cores).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

slow=
preset=release
folders=()
while [ $# -gt 0 ]; do
  case "$1" in
    --slow) slow=yes; shift ;;
    --folder) folders+=("tests/${2:?--folder needs a folder below tests}"); shift 2 ;;
    --preset) preset=${2:?--preset needs a name}; shift 2 ;;
    --) shift; break ;;
    *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
  esac
done
jobs=${JOBS:-$(nproc)}
# Tests share the cores: a thread that waits sleeps instead of taking another test's time.
export OMP_WAIT_POLICY=passive
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

build() {  # build PRESET [TARGET...]; without a target, all
  local name=$1 quiet=()
  shift
  [ -t 1 ] || quiet=(-- --quiet)
  cmake --build "build/$name" -j "$jobs" ${1:+--target "$@"} "${quiet[@]}"
}

if [ -n "$slow" ]; then
  ./launch/install_dependencies.sh --slow
  log=$(mktemp)
  trap 'rm -f "$log"' EXIT
  failed=()
  closing=()
  for preset in release asan tsan clang fuzz; do
    start=$SECONDS
    if ! TOROID_TEST_SLOW=$([ "$preset" = release ] && echo yes) ./launch/test.sh --preset "$preset" -- "$@" 2>&1 | tee "$log"; then
      failed+=("$preset")
    fi
    line=$(grep -E 'tests passed, [0-9]+ tests failed|No tests were found' "$log" | tail -n 1 || true)
    closing+=("$(printf '%-8s %5d s  %s' "$preset" $((SECONDS - start)) "${line:-did not build}")")
  done
  echo
  printf '%s\n' "${closing[@]}"
  if [ ${#failed[@]} -gt 0 ]; then
    echo "test: failed in: ${failed[*]}" >&2
    exit 1
  fi
  exit 0
fi

case "$preset" in
  clang | fuzz) ./launch/install_dependencies.sh --slow ;;
  *) ./launch/install_dependencies.sh --test ;;
esac
echo "== $preset: configuring"
# From nothing several sources at a time are quicker; a directory that is there keeps its own way.
unity=()
case "$preset" in
  release | asan) [ -f "build/$preset/CMakeCache.txt" ] || unity=(-DTOROID_UNITY=ON) ;;
esac
cmake --preset "$preset" -Wno-dev "${unity[@]}"
echo "== $preset: building"
start=$SECONDS
select=(-LE '^(slow|fuzz)$')
case "$preset" in
  tsan)
    # Only the tests of threaded code say something new here, and only they are built.
    select=(-L '^threads$')
    programs=$(ctest --test-dir "build/$preset" -N "${select[@]}" | sed -n 's/^ *Test *#[0-9]*: *//p')
    # shellcheck disable=SC2086  # one word a program
    build "$preset" ${programs:?no test has the label threads}
    ;;
  fuzz)
    select=(-L '^fuzz$')
    build "$preset" fuzzers
    ;;
  *)
    for folder in "${folders[@]}"; do
      [ -d "$folder" ] || { echo "test: there is no folder $folder" >&2; exit 2; }
    done
    build "$preset" "${folders[@]/%//all}"
    ;;
esac
if [ -n "${TOROID_TEST_SLOW:-}" ]; then select=(-LE '^fuzz$'); fi
echo "== $preset: testing (built in $((SECONDS - start)) s)"
complete=yes
for folder in "${folders[@]:-.}"; do
  ctest --test-dir "build/$preset/$folder" --output-on-failure --no-tests=error -j "$jobs" "${select[@]}" "$@" || complete=
done
[ -n "$complete" ]
