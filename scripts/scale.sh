#!/usr/bin/env bash
# Throughput by number of shards: 1, 2, 4, … as far as the machine has cores.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/bench-lib.sh"

usage() {
    cat <<EOF
Usage: scripts/scale.sh [--max N] [--quick] [--scenarios LIST] [--out DIR]

  --max N           most shards [half the cores, at least 2: the load needs as many as the broker]
  --quick           two seconds per scenario instead of six
  --scenarios LIST  by the beginning of their names [ingest-qos1,pairs-qos0,pairs-qos1,fanout,telemetry]
  --out DIR         where the results go [target/bench/scale]

Shards get the first cores, the load as many of the others; where there are too few, they share, and a note says so.
EOF
}

mapfile -t CORES < <(allowed_cores)
MAX=$((${#CORES[@]} / 2 > 2 ? ${#CORES[@]} / 2 : 2))
QUICK='' ONLY=ingest-qos1,pairs-qos0,pairs-qos1,fanout,telemetry OUT=$ROOT/target/bench/scale
while (($#)); do
    case $1 in
    --max) MAX=$2 && shift ;;
    --quick) QUICK=--quick ;;
    --scenarios) ONLY=$2 && shift ;;
    --out) OUT=$2 && shift ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

build ringmq ringmq-bench
mkdir -p "$OUT/runs" && rm -f "$OUT"/runs/*.json "$OUT"/*.log
STATUS=0
for ((shards = 1; shards <= MAX; shards *= 2)); do
    BROKER_CORES=$(IFS=, && echo "${CORES[*]:0:shards}")
    LOAD=("${CORES[@]:shards:shards}")
    if ((${#LOAD[@]} == 0)); then
        LOAD=("${CORES[@]:0:shards}")
        echo "note: $shards shards leave no core for the load; they share cores $BROKER_CORES" >&2
    fi
    LOAD_CORES=$(IFS=, && echo "${LOAD[*]}")
    while read -r case args; do
        wanted "$case" "$ONLY" || continue
        start_broker ringmq "$(known_command ringmq "$case" "$BROKER_CORES" "$shards")" "$BROKER_CORES" ||
            die "ringmq did not start; see $OUT/ringmq.log"
        # shellcheck disable=SC2086  # the scenario is a list of words
        "$BENCH" $args --case "$case" --label "ringmq-$shards" --port "$PORT" --pid "$BROKER_PID" \
            --cores "$LOAD_CORES" --threads ${#LOAD[@]} --json "$OUT/runs/$case-$shards.json" </dev/null || STATUS=1
        stop_broker
    done < <(scenarios $QUICK)
done

echo
"$BENCH" report "$OUT/runs" --baseline ringmq-1 --title "RingMQ by number of shards" --markdown "$OUT/table.md" \
    --html "$OUT/report.html" --scaling "$OUT/scaling.svg"
echo "chart: $OUT/scaling.svg   report: $OUT/report.html"
exit $STATUS
