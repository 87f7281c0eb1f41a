#!/usr/bin/env bash
# Looks at the code as .clang-format and .clang-tidy say.
#
#   ./launch/lint.sh               checks the format of every tracked file
#   ./launch/lint.sh --fix         formats them
#   ./launch/lint.sh --tidy [REV]  clang-tidy on the lines changed since REV (default: HEAD, what is not committed)
#   ./launch/lint.sh --tidy-all    clang-tidy on every source; minutes
#
# Tests are not looked at. Both fail where clang-tidy finds something. LIMIT=SECONDS: --tidy begins with the sources that
# changed most, starts none after so long, and says how many it did not look at. clang-tidy reads the compile commands of
# build/tidy, which is configured here: a build that compiles several sources at a time does not name them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

commands=build/tidy/compile_commands.json

prepare() {
  command -v clang-tidy-14 >/dev/null || {
    echo "lint: clang-tidy-14 is not installed; run ./launch/install_dependencies.sh --lint" >&2
    exit 1
  }
  echo "lint: configuring build/tidy"
  local log protos
  log=$(mktemp)
  protos=$(git ls-files -- '*.proto' | sed 's,\(.*\)\.proto$,protos/\1.pb.h,')
  # shellcheck disable=SC2086  # one word a generated header
  if ! { cmake --preset release -B build/tidy -DTOROID_UNITY=OFF -Wno-dev &&
    cmake --build build/tidy --target $protos; } >"$log" 2>&1; then
    cat "$log" >&2
    rm -f "$log"
    echo "lint: build/tidy cannot be configured (above)" >&2
    exit 1
  fi
  rm -f "$log"
}

# tidy FILTER: clang-tidy on the sources that are named, one a line; FILTER is one more argument for it.
tidy() {
  local sources=() skipped=0 left
  # A source that no target builds has no compile command.
  while IFS= read -r file; do
    if grep -q "\"[^\"]*/$file\"" "$commands"; then sources+=("$file"); else skipped=$((skipped + 1)); fi
  done
  [ $skipped = 0 ] || echo "lint: $skipped sources belong to no target of this configuration"
  [ ${#sources[@]} -gt 0 ] || { echo "lint: no source to look at"; return 0; }
  echo "lint: clang-tidy on ${#sources[@]} sources"
  left=$(mktemp)
  # shellcheck disable=SC2016  # the inner shell's variables
  if ! printf '%s\0' "${sources[@]}" |
    xargs -0 -n 1 -P "$(nproc)" bash -c '
      if [ "$(date +%s)" -ge "$1" ]; then echo "$4" >>"$3"; exit 0; fi
      clang-tidy-14 --quiet --warnings-as-errors="*" -p build/tidy "$2" "$4" 2> >(grep -v "warnings generated\.$" >&2)
    ' tidy $(($(date +%s) + ${LIMIT:-86400})) "$1" "$left"; then
    rm -f "$left"
    echo "lint: clang-tidy has findings (above)" >&2
    return 1
  fi
  [ ! -s "$left" ] || echo "lint: $(wc -l <"$left") sources were not looked at within $LIMIT s"
  rm -f "$left"
}

# The lines that differ from revision $1, as clang-tidy's line filter. What is found in older lines is no news.
changed_lines() {
  {
    git diff -U0 --no-color "$1" -- '*.cpp' '*.h' ':!tests'
    git ls-files --others --exclude-standard -- '*.cpp' '*.h' ':!tests' |
      while IFS= read -r file; do git diff -U0 --no-color --no-index /dev/null "$file" || true; done
  } | awk '
    function close_file() { if (lines != "") printf "%s{\"name\":\"%s\",\"lines\":[%s]}", n++ ? "," : "", name, lines }
    BEGIN { printf "-line-filter=[" }
    /^\+\+\+ / { close_file(); lines = ""; name = substr($0, 7) }
    /^@@ / {
      split(substr($3, 2), range, ","); count = range[2] == "" ? 1 : range[2]
      if (count > 0) lines = lines (lines == "" ? "" : ",") "[" range[1] "," range[1] + count - 1 "]"
    }
    END { close_file(); print "]" }'
}

# The sources that differ from revision $1, those with the most changed lines first.
changed_sources() {
  {
    # A file that moved is "old => new", or "room/{old => new}/file".
    git diff --numstat --diff-filter=d "$1" -- '*.cpp' ':!tests' |
      sed -E 's,\{[^{}]* => ([^{}]*)\},\1,; s,//,/,; s,\t[^\t]* => ,\t,' | awk -F'\t' '{ print $1 "\t" $3 }'
    git ls-files --others --exclude-standard -- '*.cpp' ':!tests' | while IFS= read -r file; do
      printf '%d\t%s\n' "$(wc -l <"$file")" "$file"
    done
  } | sort -rn | cut -f 2
}

case "${1:-}" in
  '') exec ./tests/format/check_format.sh ;;
  --fix) exec ./tests/format/check_format.sh --fix ;;
  --tidy)
    base=$(git rev-parse --verify --quiet "${2:-HEAD}^{commit}") ||
      { echo "lint: '${2:-HEAD}' is no revision of this repository" >&2; exit 2; }
    prepare
    changed_sources "$base" | tidy "$(changed_lines "$base")"
    ;;
  --tidy-all)
    prepare
    git ls-files -- '*.cpp' ':!tests' | tidy --quiet
    ;;
  *) sed -n '2,11s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 2 ;;
esac
