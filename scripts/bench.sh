#!/usr/bin/env bash
# Builds RingMQ, runs every scenario against it, prints one table, and leaves JSON and an HTML report in target/bench.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/bench-lib.sh"

usage() {
    cat <<EOF
Usage: scripts/bench.sh [--shards N] [--quick] [--scenarios LIST] [--broker NAME=COMMAND] [--out DIR]

  --shards N        shards of RingMQ, each on a core of its own [1]
  --quick           two seconds per scenario instead of six; for a look, not for figures
  --scenarios LIST  only these, by the beginning of their names: pairs,fanout,latency
  --broker NAME=COMMAND  another broker instead of RingMQ; {port} in COMMAND is where it must listen.
                    mosquitto, rumqttd and floor are known without a COMMAND
  --out DIR         where the results go [target/bench/run]

The broker gets the first N cores, the load generator the others; with no core left they share, and the report says so.
EOF
}

SHARDS=1 QUICK='' ONLY='' BROKER=ringmq OUT=$ROOT/target/bench/run
while (($#)); do
    case $1 in
    --shards) SHARDS=$2 && shift ;;
    --quick) QUICK=--quick ;;
    --scenarios) ONLY=$2 && shift ;;
    --broker) BROKER=$2 && shift ;;
    --out) OUT=$2 && shift ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

mapfile -t CORES < <(allowed_cores)
BROKER_CORES=$(IFS=, && echo "${CORES[*]:0:SHARDS}")
LOAD=("${CORES[@]:SHARDS}")
if ((${#LOAD[@]} == 0)); then
    LOAD=("${CORES[-1]}")
    echo "warning: ${#CORES[@]} cores for $SHARDS shards and the load; they share core ${CORES[-1]}" >&2
fi
LOAD_CORES=$(IFS=, && echo "${LOAD[*]}")
THREADS=$((${#LOAD[@]} < SHARDS ? ${#LOAD[@]} : SHARDS))

NAME=${BROKER%%=*}
if [[ $NAME == ringmq && $BROKER == ringmq ]]; then build ringmq ringmq-bench; else build ringmq-bench; fi
mkdir -p "$OUT" && rm -f "$OUT"/*.json "$OUT"/*.svg "$OUT"/*.log
STATUS=0
while read -r case args; do
    wanted "$case" "$ONLY" || continue
    [[ $NAME != floor ]] || has_floor "$case" || continue
    if [[ $BROKER == *=* ]]; then
        command=${BROKER#*=}
    else
        command=$(known_command "$NAME" "$case" "$BROKER_CORES" "$SHARDS") || die "$NAME is not known; give NAME=COMMAND"
    fi
    start_broker "$NAME" "$command" "$BROKER_CORES" || die "$NAME did not start; see $OUT/$NAME.log"
    # shellcheck disable=SC2086  # the scenario is a list of words
    "$BENCH" $args --case "$case" --label "$NAME" --port "$PORT" --pid "$BROKER_PID" --cores "$LOAD_CORES" \
        --threads "$THREADS" --json "$OUT/$case.json" --plot "$OUT/$case.svg" </dev/null || STATUS=1
    stop_broker
done < <(scenarios $QUICK)

echo
"$BENCH" report "$OUT" --baseline "$NAME" --title "$NAME, $SHARDS shard(s)" --html "$OUT/report.html" \
    --markdown "$OUT/table.md" || STATUS=1
echo "report: $OUT/report.html"
exit $STATUS
