#!/usr/bin/env bash
# The quick start ends in success, a second call skips the training, and one rank alone ends within 0.02 nat of its four.
# About 35 minutes; needs Debian's package archive.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

log=$(mktemp)
trap 'rm -f "$log"' EXIT
./launch/quickstart.sh | tee "$log"
grep -q '^Success: ' "$log" || { echo "quickstart_test: no word of success"; exit 1; }
before=$(sha256sum <runs/quickstart/metrics.jsonl)

./launch/quickstart.sh | tee "$log"
for text in 'tokenizer and token shards' 'training'; do
  grep -q "^== $text: done before" "$log" || { echo "quickstart_test: the second call did not skip: $text"; exit 1; }
done
grep -q '^Success: ' "$log" || { echo "quickstart_test: no word of success from the second call"; exit 1; }
after=$(sha256sum <runs/quickstart/metrics.jsonl)
[ "$before" = "$after" ] || { echo "quickstart_test: the second call changed the run"; exit 1; }

validation_loss() { grep -oE '"validation_loss": *[0-9.]+' "$1/metrics.jsonl" | tail -n 1 | sed 's/.*: *//'; }
./build/release/bin/toroid train --config configs/quickstart.textproto --out runs/quickstart_one_rank --again \
  --set 'mesh.torus=[1]' --set mesh.data=1 --set batch.sequences_per_replica=8
awk -v four="$(validation_loss runs/quickstart)" -v one="$(validation_loss runs/quickstart_one_rank)" 'BEGIN {
  printf "validation loss: four ranks %.4f, one rank %.4f nats\n", four, one
  difference = four - one
  exit four == "" || one == "" || difference > 0.02 || difference < -0.02
}' || { echo "quickstart_test: four ranks and one did not end within 0.02 nat"; exit 1; }
