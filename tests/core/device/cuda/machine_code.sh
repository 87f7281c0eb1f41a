#!/usr/bin/env bash
# What a build can know of its kernels without a GPU: that no register is spilled, that no floats are added by atomics (whose order is of the moment), and that device memory is read and
# written 16 bytes at a time but for the accesses that machine_code.list allows.
#
#   machine_code.sh LIBRARY [CUOBJDUMP]     fails where a kernel breaks a rule, and names it
#   machine_code.sh --table LIBRARY ...     prints what it found of every kernel
#
# cuobjdump comes with CUDA's toolkit, or as PyPI's nvidia-cuda-cuobjdump; it wants nvdisasm beside it.
set -euo pipefail
table=0
if [ "${1:-}" = --table ]; then
  table=1
  shift
fi
library=${1:?usage: machine_code.sh [--table] LIBRARY [CUOBJDUMP]}
cuobjdump=${2:-cuobjdump}
PATH=$(dirname "$cuobjdump"):$PATH
list=$(dirname "${BASH_SOURCE[0]}")/machine_code.list

# Registers of each function as "REGISTERS name", then the instructions.
{
  "$cuobjdump" -res-usage "$library" 2>&1 | awk '
    /arch =/ { arch = $3 }
    /^ Function / { name = $2; sub(/:$/, "", name) }
    /REG:/ { match($0, /REG:[0-9]+/); print "REGISTERS", name, substr($0, RSTART + 4, RLENGTH - 4) }'
  "$cuobjdump" -sass "$library"
} | awk '
  /^REGISTERS/ || /Function :/ { print; next }
  /^[ \t]*(arch =|code for)/ { print; next }
  /^ +\/\*[0-9a-f][0-9a-f][0-9a-f][0-9a-f]+\*\/ / {
    sub(/^ +\/\*[0-9a-f]+\*\/ +/, ""); sub(/^@!?U?P[0-9T]+ +/, ""); print "I", $1
  }' | c++filt | awk -v table=$table '
  # "PATTERN NARROW": kernels whose name holds the pattern may have so many narrower accesses; the first line counts.
  FNR == NR {
    if ($0 !~ /^#/ && NF >= 2) { patterns[++count] = $1; most[count] = $2 }
    next
  }
  function finish(    i, allowed, wrong) {
    if (name == "") return
    allowed = 0
    for (i = 1; i <= count; ++i) if (name ~ patterns[i]) { allowed = most[i] == "any" ? 1000000 : most[i]; used[i] = 1; break }
    wrong = (spilled > 0 ? " spills" : "") (atomic > 0 ? " atomic sums of floats" : "") (narrow > allowed ? " narrow accesses" : "")
    kernels += 1
    if (wrong != "") bad += 1
    if (table || wrong != "") printf "%-9s %-66s instructions %5d, 16 bytes %3d, narrower %3d, spills %d%s\n", arch, name, total, wide, narrow, spilled, wrong == "" ? "" : "  <-" wrong
    name = ""
  }
  function plain(text) {
    sub(/^.*Function : */, "", text); sub(/^.*run_kernel</, "", text)
    gsub(/toroid::cuda::|toroid::op::activation::|\(anonymous namespace\)::|\(int\)/, "", text)
    gsub(/unsigned short/, "bf16", text); sub(/, [0-9]+, [A-Za-z]*Args.*$/, "", text); gsub(/ /, "", text)
    return text
  }
  /code for/ { finish(); arch = $3 }
  /Function :/ { finish(); name = plain($0); total = wide = narrow = spilled = atomic = 0 }
  $1 == "I" && name != "" {
    total += 1
    if ($2 ~ /^(LDL|STL)/) spilled += 1
    if ($2 ~ /^(RED|ATOM)/ && $2 ~ /F(16|32|64)/) atomic += 1
    if ($2 ~ /^(LDG|STG)/) { if ($2 ~ /\.128/) wide += 1; else narrow += 1 }
  }
  END {
    finish()
    for (i = 1; i <= count; ++i) if (!used[i]) { print "machine_code.list: no kernel is called " patterns[i]; bad += 1 }
    printf "%d kernels, %d broken rules\n", kernels, bad
    exit bad > 0 || kernels == 0
  }' "$list" -
