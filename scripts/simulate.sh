#!/bin/sh
# The deterministic simulator, optimised and with the core's own checks on.
#
#   scripts/simulate.sh --hours 2               seed after seed, and what they consisted of
#   scripts/simulate.sh --seeds 10000 --first 7
#   scripts/simulate.sh --seed 42 --shrink      one run, as short as it still fails, with its story
set -eu
cd "$(dirname "$0")/.."
exec cargo run --quiet --profile simulation -p ringmq-shard --features simulation --example simulate -- "$@"
