#!/usr/bin/env bash
# Every scenario for a moment, for correctness and never for speed: nothing lost, duplicated, reordered or corrupted, at
# QoS 1 and 2, with 1 and 2 shards, and some of them over WebSocket and TLS. Fixed numbers of messages, so that a slow
# machine takes longer and is not wrong.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/bench-lib.sh"

usage() {
    cat <<EOF
Usage: scripts/bench-smoke.sh [--shards "1 2"] [--broker NAME | --broker NAME=COMMAND] [--no-build]

  --shards LIST     numbers of shards to try [1 2]; {shards} in a COMMAND is the number
  --broker          another broker than RingMQ: mosquitto, floor, or NAME=COMMAND with {port}
  --no-build        take the binaries in target/release as they are
EOF
}

SHARD_COUNTS='1 2' BROKER=ringmq BUILD=1 OUT=$ROOT/target/bench/smoke
while (($#)); do
    case $1 in
    --shards) SHARD_COUNTS=$2 && shift ;;
    --broker) BROKER=$2 && shift ;;
    --no-build) BUILD='' ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

smoke_scenarios() {
    local qos
    for qos in 0 1 2; do
        cat <<EOF
ingest -c 10 -q $qos -L 20000
pairs -c 10 -q $qos -L 20000
fanin -c 10 -q $qos -L 20000
fanout -c 20 -q $qos -L 1000
telemetry -c 100 -q $qos -L 10000
latency -c 10 -q $qos --rate 5000 -L 5000
EOF
    done
    cat <<EOF
sharedsub -c 10 -q 1 -L 20000
sharedsub -c 10 -q 2 -L 10000
subs -c 2000 --subscribers 20 -q 1
retained -c 1000 --subscribers 5 -q 1
retained -c 500 --subscribers 5 -q 2
connect -c 20 -L 1000
idle -c 200 --warmup 0 --duration 500ms
suite conn-tcp-1K-5K --scale 0.1 --warmup 0 --duration 500ms
suite p2p-1K-1K-1K-1K --scale 0.05 --warmup 0 --duration 1s
suite fanout-5-1000-5-250K --scale 0.02 --warmup 0 --duration 1s
suite sharedsub-1K-5-1K-1K --scale 0.4 --warmup 0 --duration 1s
EOF
}

# Over WebSocket and TLS: what is different there is below MQTT.
transport_scenarios() {
    cat <<EOF
pairs -c 10 -q 1 -L 20000
fanout -c 20 -q 2 -L 1000
ingest -c 2 -q 1 -L 200 -s 100000
connect -c 20 -L 200
EOF
}

NAME=${BROKER%%=*}
if [[ -n $BUILD ]]; then
    if [[ $BROKER == ringmq ]]; then build ringmq ringmq-bench; else build ringmq-bench; fi
fi
mapfile -t CORES < <(allowed_cores)
mkdir -p "$OUT" && rm -f "$OUT"/*.log
TRANSPORTS=plain
if [[ $BROKER == ringmq ]]; then TRANSPORTS='plain ws tls wss' && make_certificate "$OUT"; fi
PASSED=0 FAILED=0
for shards in $SHARD_COUNTS; do
    broker_cores=$(IFS=, && echo "${CORES[*]:0:shards}")
    if [[ $BROKER == *=* ]]; then
        command=${BROKER#*=}
        command=${command//\{shards\}/$shards}
    else
        command=$(known_command "$NAME" smoke "$broker_cores" "$shards") || die "$NAME is not known; give NAME=COMMAND"
    fi
    for transport in $TRANSPORTS; do
        # One broker for all scenarios: what one leaves behind must not harm the next.
        start_broker "$NAME" "$command $(transport_flags broker "$transport" "$OUT")" "$broker_cores" ||
            die "$NAME did not start; see $OUT/$NAME.log"
        while read -r args; do
            # shellcheck disable=SC2046,SC2086  # lists of words
            if output=$(timeout 120 "$BENCH" $args $(transport_flags client "$transport" "$OUT") --port "$PORT" \
                --label "$NAME" --threads "$shards" 2>&1 </dev/null); then
                PASSED=$((PASSED + 1))
                echo "ok      $shards shard(s)  $transport  $args"
            else
                FAILED=$((FAILED + 1))
                printf 'FAILED  %s shard(s)  %s  %s\n%s\n' "$shards" "$transport" "$args" "$output"
            fi
            kill -0 "$BROKER_PID" 2>/dev/null || die "$NAME is gone; see $OUT/$NAME.log"
        done < <(if [[ $transport == plain ]]; then smoke_scenarios; else transport_scenarios; fi)
        stop_broker
    done
done
echo "$PASSED passed, $FAILED failed"
((FAILED == 0))
