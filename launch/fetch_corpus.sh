#!/usr/bin/env bash
# Fetches the quick start corpus: real documents from Debian packages, unpacked and never installed.
#
#   fetch_corpus.sh [DIRECTORY]     default: ${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/toroid/corpus
#   fetch_corpus.sh --list          the packages, one a line: group, package, licence, wanted files
#
# Needs apt-get and dpkg-deb, no root. About 25 MB to download, 140 MB on disk. Run again after an interruption:
# packages that are there are kept. A package that cannot be had is named and left out; the script fails only when a
# whole group (web, mathematics, code) is empty. DIRECTORY/PACKAGES.tsv records what was used; DIRECTORY/licences
# holds each package's copyright file. docs/corpus.md describes the set.
set -euo pipefail

# group, package, licence of the files taken, name patterns of the files taken
packages() {
  cat <<'LIST'
web          postgresql-doc-15         PostgreSQL                      *.html
web          sqlite3-doc               public-domain                   *.html
web          libreoffice-help-en-us    MPL-2.0                         *.html
web          mh-book                   GPL-2.0-or-later                *.html
mathematics  gap-online-help           GPL-2.0-or-later                *.txt
mathematics  libflint-doc              LGPL-2.1-or-later               *.rst.txt
mathematics  agda-stdlib-doc           MIT                             *.html
code         libpython3.11-stdlib      PSF-2.0                         *.py
code         golang-golang-x-tools-dev BSD-3-Clause                    *.go
code         librust-tokio-dev         MIT                             *.rs
LIST
}

case "${1:-}" in
  --list) packages; exit 0 ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  -*) echo "fetch_corpus: unknown option '$1'; see --help" >&2; exit 2 ;;
esac
corpus=${1:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/toroid/corpus}
for program in apt-get dpkg-deb; do
  command -v "$program" >/dev/null || {
    echo "fetch_corpus: $program not found; this corpus comes from Debian packages, see docs/corpus.md for others" >&2
    exit 3
  }
done
mkdir -p "$corpus/licences"
corpus=$(cd "$corpus" && pwd)
scratch=$corpus/.partial
rm -rf "$scratch" # only what an interrupted run left
mkdir -p "$scratch"
trap 'rm -rf "$scratch"' EXIT

apt_options=(-qq)
# As root apt would switch to the user _apt, who may not be able to write here.
[ "$(id -u)" -ne 0 ] || apt_options+=(-o APT::Sandbox::User=root)

refreshed=no
refresh_lists() {
  [ $refreshed = no ] || return 1
  refreshed=yes
  echo "fetch_corpus: refreshing the package lists"
  if [ "$(id -u)" -ne 0 ]; then # lists of our own, as the system's need root
    mkdir -p "$corpus/.apt/lists/partial" "$corpus/.apt/cache/archives/partial"
    apt_options+=(-o "Dir::State::lists=$corpus/.apt/lists" -o "Dir::Cache=$corpus/.apt/cache")
  fi
  apt-get "${apt_options[@]}" update
}

# Leaves one .deb in $scratch/deb or fails.
download() {
  rm -rf "$scratch/deb" && mkdir -p "$scratch/deb"
  (cd "$scratch/deb" && apt-get "${apt_options[@]}" download "$1" >"$scratch/log" 2>&1) || return 1
  compgen -G "$scratch/deb/*.deb" >/dev/null
}

# Unpacks the .deb and keeps regular files of the wanted names alone: no links, devices or binaries.
unpack() {
  local target=$1 patterns=$2 name
  local -a names wanted=()
  read -ra names <<<"$patterns" # splits without expanding
  for name in "${names[@]}"; do wanted+=(-o -name "$name"); done
  rm -rf "$scratch/tree" && mkdir "$scratch/tree"
  dpkg-deb -x "$scratch"/deb/*.deb "$scratch/tree" 2>>"$scratch/log" || return 1
  if [ -f "$scratch/tree/usr/share/doc/$package/copyright" ]; then
    cp "$scratch/tree/usr/share/doc/$package/copyright" "$corpus/licences/$package"
  fi
  find "$scratch/tree" ! -type d ! -type f -delete
  find "$scratch/tree" -type f ! \( "${wanted[@]:1}" \) -delete
  find "$scratch/tree" -mindepth 1 -type d -empty -delete
  chmod -R u=rwX,go=rX "$scratch/tree"
  [ -n "$(find "$scratch/tree" -type f -print -quit)" ] || { echo "no file matches $patterns" >>"$scratch/log"; return 1; }
  rm -rf "$target" && mkdir -p "$(dirname "$target")" && mv "$scratch/tree" "$target" || return 1
}

# One line of PACKAGES.tsv; its presence says that the package is complete.
record() {
  local target=$1 deb files bytes
  deb=$(echo "$scratch"/deb/*.deb)
  files=$(find "$target" -type f | wc -l)
  bytes=$(find "$target" -type f -printf '%s\n' | awk '{ total += $1 } END { print total + 0 }')
  printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$group" "$package" "$(dpkg-deb -f "$deb" Version)" \
    "$(dpkg-deb -f "$deb" Architecture)" "$licence" "$files" "$bytes" "$(sha256sum "$deb" | cut -d' ' -f1)" \
    >"$corpus/licences/.$package.tsv"
}

missing=()
while read -r group package licence patterns; do
  target=$corpus/$group/$package
  if [ -s "$corpus/licences/.$package.tsv" ] && [ -d "$target" ]; then
    echo "fetch_corpus: $package is there"
    continue
  fi
  echo "fetch_corpus: fetching $package ($group, $licence)"
  if ! { download "$package" || { refresh_lists && download "$package"; }; } || ! unpack "$target" "$patterns"; then
    echo "fetch_corpus: cannot have $package, going on without it: $(tail -n 1 "$scratch/log" 2>/dev/null)" >&2
    missing+=("$package")
    continue
  fi
  record "$target"
done < <(packages)

{
  printf 'group\tpackage\tversion\tarchitecture\tlicence\tfiles\tbytes\tsha256\n'
  while read -r group package _; do
    [ ! -s "$corpus/licences/.$package.tsv" ] || cat "$corpus/licences/.$package.tsv"
  done < <(packages)
} >"$corpus/PACKAGES.tsv.new"
mv "$corpus/PACKAGES.tsv.new" "$corpus/PACKAGES.tsv"

for group in web mathematics code; do
  if ! grep -q "^$group	" "$corpus/PACKAGES.tsv"; then
    echo "fetch_corpus: no package of group '$group' could be had; check the network and /etc/apt/sources.list*" >&2
    exit 3
  fi
done
awk -F '\t' 'NR > 1 { files += $6; bytes += $7 } END {
  printf "fetch_corpus: %d packages, %d files, %.1f MB in %s\n", NR - 1, files, bytes / 1e6, corpus }' \
  corpus="$corpus" "$corpus/PACKAGES.tsv"
[ ${#missing[@]} -eq 0 ] || echo "fetch_corpus: left out: ${missing[*]}"
