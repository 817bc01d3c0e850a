#!/bin/sh
# Plants one mistake after the other in the core, and counts the seeds that the simulator needs to find it.
set -eu
cd "$(dirname "$0")/.."
exec cargo run --quiet --profile simulation -p ringmq-shard --features planted-faults --example simulate -- --planted-faults
