#!/usr/bin/env bash
# launcher_test.sh PROGRAM SOURCE_DIRECTORY: what becomes of a job's end and of signals, with a stub in place of mpirun
# and, for the quick start, in place of all that it calls. Seconds; no rank is started.
set -u
program=$1
source=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0
complain() { echo "FAILED: $*" >&2; failed=1; }

mkdir "$work/bin"
cat >"$work/bin/mpirun" <<'STUB'
#!/usr/bin/env bash
# Ends with $STUB_CODE, or waits: SIGUSR1 is what asks ranks to save, SIGTERM what mpirun ends its ranks on.
if [ -n "${STUB_CODE:-}" ]; then exit "$STUB_CODE"; fi
trap 'echo USR1 >>"$STUB_LOG"; exit 75' USR1
trap 'echo TERM >>"$STUB_LOG"; exit 1' TERM
echo "$$" >"$STUB_LOG"
for ((i = 0; i < 300; ++i)); do sleep 0.1; done
STUB
chmod +x "$work/bin/mpirun"
export PATH=$work/bin:$PATH STUB_LOG=$work/stub.log

cat >"$work/run.textproto" <<'CONFIG'
model { d_model: 32 layers: 2 heads: 4 kv_heads: 2 head_dim: 8 ffn: 48 vocab: 640 }
mesh { torus: [1, 2] data: 2 }
batch { tokens_per_sequence: 32 global_sequences: 8 sequences_per_replica: 1 }
optim { schedule { constant { peak: 1e-3 } } }
train { steps: 6 threads: 1 }
data { directory: "none" corpus: "none" tokenizer { train { vocab: 640 } } source { name: "text" path: "text" format: TEXT } }
CONFIG
launch() { "$program" launch --config "$work/run.textproto" --out "$work/run"; }

# What mpirun ends with against what the launcher does.
while read -r mpirun launcher; do
  STUB_CODE=$mpirun launch >"$work/log" 2>&1
  code=$?
  [ $code -eq "$launcher" ] || complain "mpirun's $mpirun became $code and not $launcher: $(cat "$work/log")"
done <<'CODES'
0 0
1 3
2 2
3 3
17 3
70 1
75 75
76 76
77 77
135 3
137 76
139 1
213 3
CODES

# What the machine lacks is found before mpirun is called: exit code 3 and one sentence with the figures.
refused() {  # TEXT COMMAND...
  local text=$1
  shift
  STUB_CODE=0 "$@" >"$work/log" 2>&1
  code=$?
  { [ $code -eq 3 ] && [ "$(wc -l <"$work/log")" -eq 1 ] && grep -q "^toroid: .*$text" "$work/log"; } ||
    complain "exit code $code and not 3 with '$text': $(cat "$work/log")"
}
with_shm() {  # OPTIONS of a tmpfs
  unshare -m sh -c 'mount -t tmpfs -o "$1" tmpfs /dev/shm && exec "$2" launch --config "$3" --out "$4"' - \
    "$1" "$program" "$work/run.textproto" "$work/run"
}
refused '16 files open here, but 2 ranks' bash -c 'ulimit -n 16; exec "$@"' - "$program" launch \
  --config "$work/run.textproto" --out "$work/run"
refused "'/nowhere', where mpirun" env TMPDIR=/nowhere "$program" launch --config "$work/run.textproto"
refused "names 'c', but the environment is of Slurm job 7" env SLURM_JOB_ID=7 'SLURM_JOB_NODELIST=n[1-2],a' "$program" \
  launch --config "$work/run.textproto" --hosts a:1,c:1
if [ "$(id -u)" -eq 0 ] && unshare -m true 2>/dev/null; then
  refused "'/dev/shm' has 1.05 MB free, but 2 ranks on this host need .*--shm-size=" with_shm size=1m
  refused "'/dev/shm'.* cannot be written (Read-only file system)" with_shm ro
  STUB_CODE=0 with_shm size=5m >"$work/log" 2>&1 || complain "refused with 5 MiB: $(cat "$work/log")"
  grep -q 'may come to need' "$work/log" || complain "no warning with 5 MiB: $(cat "$work/log")"
else
  echo "without root: a /dev/shm of another size is not tried"
fi

until_begun() { for ((i = 0; i < 200; ++i)); do [ -s "$STUB_LOG" ] && return; sleep 0.05; done; complain "no start"; }
start() {  # in a group of its own, as a shell's job
  rm -f "$STUB_LOG"
  setsid "$program" launch --config "$work/run.textproto" --out "$work/run" >"$work/log" 2>&1 &
  launcher=$!
  until_begun
}

# SIGTERM once, and to the process and its group as `timeout` sends it: a request to save, not the end of it.
for whom in process group; do
  start
  kill -TERM $launcher
  if [ $whom = group ]; then kill -TERM -- -$launcher; fi
  wait $launcher
  code=$?
  [ $code -eq 75 ] || complain "SIGTERM to the $whom: exit code $code and not 75"
  [ "$(sed 1d "$STUB_LOG" | sort -u)" = USR1 ] || complain "SIGTERM to the $whom: mpirun got $(tail -n +2 "$STUB_LOG")"
done

# Killed: mpirun is told, and the next start takes away what is left.
start
mpirun=$(head -n 1 "$STUB_LOG")
left=$(find /dev/shm -maxdepth 1 -name 'toroid-job-*' -exec grep -l "^process $launcher$" {}/owner \; 2>/dev/null)
[ -n "$left" ] || complain "no job directory says that it is process $launcher's"
kill -KILL $launcher
wait $launcher 2>/dev/null
for ((i = 0; i < 100; ++i)); do kill -0 "$mpirun" 2>/dev/null || break; sleep 0.1; done
if kill -0 "$mpirun" 2>/dev/null; then complain "mpirun outlives its launcher"; kill "$mpirun"; fi
grep -q TERM "$STUB_LOG" || complain "mpirun did not get SIGTERM"
STUB_CODE=0 launch >/dev/null 2>&1
[ -e "$(dirname "$left")" ] && complain "$(dirname "$left") was not swept"

# The quick start, around stubs of all that it calls.
start_quickstart() {
  rm -f "$STUB_LOG" "$work"/quick/.cache/quickstart/*.done
  "$work/quick/launch/quickstart.sh" >"$work/log" 2>&1 &
  quick=$!
}
mkdir -p "$work/quick/launch" "$work/quick/configs" "$work/quick/build/release/bin" "$work/quick/.cache/quickstart/corpus"
cp "$source/launch/quickstart.sh" "$work/quick/launch/"
touch "$work/quick/configs/quickstart.textproto" "$work/quick/.cache/quickstart/corpus/PACKAGES.tsv" \
  "$work/quick/build/release/CMakeCache.txt"
for stub in "$work/quick/launch/install_dependencies.sh" "$work/quick/launch/fetch_corpus.sh" "$work/bin/cmake"; do
  printf '#!/bin/sh\nexit 0\n' >"$stub"
  chmod +x "$stub"
done
cat >"$work/quick/build/release/bin/toroid" <<'STUB'
#!/usr/bin/env bash
if [ "$1" != "$STUB_VERB" ]; then exit 0; fi
if [ -n "${STUB_CODE:-}" ]; then exit "$STUB_CODE"; fi
trap 'exit 75' TERM USR1
echo "$$" >"$STUB_LOG"
for ((i = 0; i < 300; ++i)); do sleep 0.1; done
STUB
chmod +x "$work/quick/build/release/bin/toroid"

for signal in TERM USR1; do
  STUB_VERB=launch start_quickstart
  until_begun
  kill -s $signal $quick
  wait $quick
  code=$?
  [ $code -eq 75 ] || complain "the quick start left with $code and not 75 after SIG$signal: $(cat "$work/log")"
  grep -q 'saved on a signal; call again' "$work/log" || complain "it does not say that it was saved: $(cat "$work/log")"
  grep -q failed "$work/log" && complain "it says that something failed: $(cat "$work/log")"
done
for code in 2 3 76 77; do
  STUB_VERB=launch STUB_CODE=$code start_quickstart
  wait $quick
  got=$?
  [ $got -eq $code ] || complain "the quick start left with $got where training ended with $code"
  grep -q "the stage \"train\" failed (exit code $code)" "$work/log" || complain "$(cat "$work/log")"
done
# Another stage: the program is asked to end, and nothing after it begins.
STUB_VERB=prepare start_quickstart
until_begun
kill -TERM $quick
wait $quick
[ $? -ne 0 ] || complain "the quick start went on after SIGTERM in another stage"
grep -q '== training' "$work/log" && complain "training began after SIGTERM"
exit $failed
