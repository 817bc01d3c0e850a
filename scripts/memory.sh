#!/usr/bin/env bash
# What one shard needs in memory per idle connection, per subscription and per retained message.
#   scripts/memory.sh [CONNECTIONS [SUBSCRIPTIONS [RETAINED]]]      defaults: 10000 100000 100000
set -euo pipefail
cd "$(dirname "$0")/.."
CONNECTIONS=${1:-10000} SUBSCRIPTIONS=${2:-100000} RETAINED=${3:-100000}
cargo build --release --locked --workspace --bins
bin=${CARGO_TARGET_DIR:-target}/release
out=$(mktemp)
pid=
trap 'kill $pid 2>/dev/null || true; rm -f "$out"' EXIT
measure() {
    "$bin/ringmq" --listen 127.0.0.1:0 --shards 1 --sys-interval 0 --log text/warn >"$out" &
    pid=$!
    until grep -q '^ready' "$out"; do kill -0 $pid && sleep 0.05; done
    port=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$out")
    "$bin/ringmq-bench" "$@" -p "$port" --pid $pid | grep -E '·|memory'
    kill $pid && wait $pid
}
# A fresh process each time: what an earlier measurement freed would hide what a later one takes.
measure idle -c "$CONNECTIONS" --duration 2s
measure subs -c "$SUBSCRIPTIONS"
measure retained -c "$RETAINED"
