#!/usr/bin/env bash
# Fails where a tracked C++ or proto file is not formatted as .clang-format says. With --fix, formats instead.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

formatter=${CLANG_FORMAT:-clang-format-14}
if ! command -v "$formatter" >/dev/null; then
  echo "format: $formatter is not installed; run ./launch/install_dependencies.sh --test" >&2
  exit 1
fi
# Another version formats differently, and then the same file passes on one machine and fails on the next.
if ! "$formatter" --version | grep -q 'version 14\.'; then
  echo "format: $formatter is not version 14: $("$formatter" --version)" >&2
  exit 1
fi

if git rev-parse --git-dir >/dev/null 2>&1; then
  list=(git ls-files -z -- '*.cpp' '*.h' '*.cu' '*.cuh' '*.proto')
else
  list=(find . -path ./build -prune -o -type f '(' -name '*.cpp' -o -name '*.h' -o -name '*.cu' -o -name '*.cuh'
        -o -name '*.proto' ')' -print0)
fi
mapfile -d '' -t files < <("${list[@]}")
# A file that is tracked and was just removed is not there to be read.
present=()
for file in "${files[@]}"; do
  if [ -f "$file" ]; then present+=("$file"); fi
done
if [ ${#present[@]} -eq 0 ]; then
  echo "format: found no file to check" >&2
  exit 1
fi

if [ "${1:-}" = --fix ]; then
  "$formatter" -i "${present[@]}"
  echo "format: formatted ${#present[@]} files"
elif "$formatter" --dry-run -Werror --ferror-limit=3 "${present[@]}"; then
  echo "format: ${#present[@]} files as .clang-format says"
else
  echo "format: run ./launch/lint.sh --fix" >&2
  exit 1
fi
