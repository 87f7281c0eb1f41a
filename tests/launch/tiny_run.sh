# Sourced by the tests of the launch scripts: a training of two ranks that is prepared in seconds, and what a job may not
# leave behind. They run in namespaces of their own, so that nothing else's processes or segments are seen or touched.

# in_own_namespaces PROGRAM... -- SCRIPT ARGUMENT...: starts the script again where its processes, network, host name and
# mounts are its own, so that whatever happens, all of it is gone when the test ends. Skips where that cannot be.
in_own_namespaces() {
  if [ -n "${TOROID_IN_NAMESPACE:-}" ]; then return; fi
  [ "$(id -u)" -eq 0 ] || skip "not root"
  while [ "$1" != -- ]; do
    command -v "$1" >/dev/null || skip "$1 is not installed (launch/install_dependencies.sh --slow)"
    shift
  done
  shift
  unshare --mount --uts --pid --net --fork true 2>/dev/null || skip "this machine cannot make namespaces"
  TOROID_IN_NAMESPACE=yes exec unshare --mount --uts --pid --net --fork --mount-proc --kill-child "$@"
}

skip() { echo "skipped: $*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }

# tiny_run DIRECTORY STEPS: words made of syllables, prepared, and run.textproto for 1 x 2 ranks.
tiny_run() {
  mkdir -p "$1/corpus"
  awk -v out="$1/corpus" 'BEGIN {
    split("ka to mi ren sol bar du fen gri lo hux pan qui ves wy zan cho je", s, " "); srand(7)
    for (f = 1; f <= 200; ++f) {
      name = out "/" f ".txt"
      for (w = 0; w < 120; ++w) {
        word = ""
        for (i = 0; i <= int(rand() * 4); ++i) word = word s[1 + int(rand() * 18)]
        printf "%s ", word > name
      }
      print "" > name; close(name)
    } }'
  cat >"$1/run.textproto" <<CONFIG
device: CPU
model { d_model: 32  layers: 2  heads: 4  kv_heads: 1  head_dim: 16  ffn: 48  vocab: 600 }
mesh { torus: [1, 2]  data: 2 }
batch { tokens_per_sequence: 32  global_sequences: 4  sequences_per_replica: 2 }
optim { adamw {}  schedule { constant { peak: 1e-3 } } }
train { steps: $2  precision: FP32  threads: 1  checkpoint { every: 200  keep: 2 }  log { every: 100 } }
data {
  directory: "$1/data"  corpus: "$1/corpus"  validation_fraction: 0.05
  tokenizer { train { vocab: 600  input_megabytes: 1 } }
  source { name: "words"  path: "."  format: TEXT  weight: 1 }
}
CONFIG
  "$TOROID" prepare --config "$1/run.textproto" >/dev/null 2>&1 || fail "prepare"
}

# The step of the newest checkpoint; empty without one.
newest_step() { find "$1/checkpoints" -maxdepth 1 -name 'step-*' | sort -V | tail -n 1 | sed 's/.*step-0*//'; }

# The hashes of all that a checkpoint holds.
hashes() {  # RUN STEP
  tr -d ' \n' <"$1/checkpoints/step-$2/manifest.json" | grep -o '"tensors":\[.*' | sed 's/,"texts":.*//'
}

# Every step's row once, in order, up to the last one.
check_rows() {  # RUN LAST
  grep -o '"step":[0-9]*,"loss"' "$1/metrics.jsonl" | grep -o '[0-9]*' |
    awk -v last="$2" '$1 != NR { print "row", NR, "is step", $1; bad = 1; exit }
      END { if (!bad && NR != last) { print "the last row is step", NR, "and not", last; bad = 1 } exit bad }' ||
    fail "metrics.jsonl does not hold every step once"
}

nothing_left() {  # DIRECTORY in which shared memory was; a daemon on another host may take a moment to go
  local processes segments
  for ((i = 0; i < 10; ++i)); do
    processes=$(ps -eo comm=,args= | awk '$1 ~ /^(toroid|orted|mpirun)/')
    segments=$(find "$1" -name 'toroid*' -o -name 'vader_segment*')
    if [ -z "$processes$segments" ]; then return; fi
    sleep 1
  done
  fail "left behind: $processes $segments"
}

# expect CODE ARGUMENT...: what $TOROID ends with; output and errors are in $log.
expect() {
  local code=$1 got
  shift
  timeout 200 "$TOROID" "$@" >"$log" 2>&1
  got=$?
  [ $got -eq "$code" ] || fail "$*: exit code $got instead of $code: $(cat "$log")"
}
says() { grep -q -- "$1" "$log" || fail "nothing says '$1': $(cat "$log")"; }
