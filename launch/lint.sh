#!/usr/bin/env bash
# Looks at the code as .clang-format and .clang-tidy say.
#
#   ./launch/lint.sh               checks the format of every tracked file
#   ./launch/lint.sh --fix         formats them
#   ./launch/lint.sh --tidy [REV]  clang-tidy on the sources changed since REV (default: HEAD, what is not committed)
#   ./launch/lint.sh --tidy-all    clang-tidy on every source; minutes
#
# clang-tidy reads build/release/compile_commands.json: configure with `cmake --preset release` first.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tidy() {
  command -v clang-tidy-14 >/dev/null || {
    echo "lint: clang-tidy-14 is not installed; run ./launch/install_dependencies.sh --slow" >&2
    exit 1
  }
  local commands=${BUILD_DIR:-build/release}/compile_commands.json
  [ -f "$commands" ] || { echo "lint: $commands is missing; run cmake --preset release first" >&2; exit 1; }
  # Generated headers must be there, and a source that no target builds has no compile command.
  local sources=()
  while IFS= read -r file; do
    if [ -f "$file" ] && grep -q "\"[^\"]*/$file\"" "$commands"; then sources+=("$file"); fi
  done
  [ ${#sources[@]} -gt 0 ] || { echo "lint: no source to look at"; return 0; }
  echo "lint: clang-tidy on ${#sources[@]} sources"
  printf '%s\0' "${sources[@]}" |
    xargs -0 -n 1 -P "$(nproc)" clang-tidy-14 --quiet -p "$(dirname "$commands")"
}

case "${1:-}" in
  '') exec ./tests/format/check_format.sh ;;
  --fix) exec ./tests/format/check_format.sh --fix ;;
  --tidy)
    base=${2:-HEAD}
    { git diff --name-only "$base" -- '*.cpp'; git ls-files --others --exclude-standard -- '*.cpp'; } | tidy
    ;;
  --tidy-all) git ls-files -- '*.cpp' ':!tests' | tidy ;;
  *) sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
