#!/usr/bin/env bash
# The quick start ends in success, and a second call skips the training. About 20 minutes; needs Debian's package archive.
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
