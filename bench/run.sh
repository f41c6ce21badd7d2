#!/usr/bin/env bash
# The whole bench with peers, into docs/bench/.
set -euo pipefail
cd "$(dirname "$0")/.."
bash bench/peers.sh
mkdir -p docs/bench
rm -f docs/bench/rows.jsonl
{
  echo "# $(git describe --always --dirty), $(uname -sr), $(nproc) CPUs, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)"
  echo
  cargo run --release -q -p sapwood-bench -- --suite floor,collective,oversubscribed --peers --json docs/bench/rows.jsonl
} | tee docs/bench/table.md
