#!/usr/bin/env bash
# What following a client or a topic costs RingMQ: the same scenarios without a trace, with one of a client that is not there,
# with one of a topic that nobody uses, and with one of every topic, rounds interleaved, medians over rounds, CPU per message
# relative to no trace.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/bench-lib.sh"

usage() {
    cat <<EOF
Usage: scripts/tracing.sh [--rounds N] [--quick] [--scenarios LIST] [--than PROGRAM] [--out DIR]

  --rounds N        rounds [5]
  --quick           two seconds per scenario, and one round if not told otherwise
  --scenarios LIST  only these, by the beginning of their names: pairs,ingest
  --than PROGRAM    another build of ringmq, which takes part without a trace as "than"
  --out DIR         where the results go [target/bench/tracing]

Leaves table.md, comparison.json and report.html in DIR.
EOF
}

ROUNDS='' QUICK='' ONLY='' THAN='' OUT=$ROOT/target/bench/tracing
while (($#)); do
    case $1 in
    --rounds) ROUNDS=$2 && shift ;;
    --quick) QUICK=--quick ;;
    --scenarios) ONLY=$2 && shift ;;
    --than) THAN=$2 && shift ;;
    --out) OUT=$2 && shift ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
ROUNDS=${ROUNDS:-${QUICK:+1}}
ROUNDS=${ROUNDS:-5}

# Those in which a message's way through the broker is a good part of what it costs.
traced_scenarios() {
    scenarios $QUICK | grep -E '^(ingest-qos0|ingest-qos1|pairs-qos0|pairs-qos1|fanout-qos0|telemetry-qos1) '
}

# What `ringmq trace` is asked for; empty: it is not.
followed() {
    case $1 in
    client) echo "--client nobody" ;;
    topic) echo "--topic no/such/topic" ;;
    everything) echo "--topic #" ;;
    esac
}

mapfile -t CORES < <(allowed_cores)
BROKER_CORE=${CORES[0]}
LOAD_CORE=${CORES[1]:-${CORES[0]}}
build ringmq ringmq-bench
mkdir -p "$OUT/runs" && rm -f "$OUT"/runs/*.json "$OUT"/*.log
KINDS=(off client topic everything)
[[ -z $THAN ]] || KINDS=(than "${KINDS[@]}")

STATUS=0
for ((round = 1; round <= ROUNDS; round++)); do
    while read -r case args; do
        wanted "$case" "$ONLY" || continue
        echo "round $round of $ROUNDS: $case" >&2
        for kind in "${KINDS[@]}"; do
            admin="--admin-listen 127.0.0.1:$(free_port)"
            command="$(known_command ringmq "$case" "$BROKER_CORE" 1) $admin"
            [[ $kind != than ]] || command=${command/#"$RINGMQ"/"$THAN"}
            start_broker "$kind" "$command" "$BROKER_CORE" || die "the broker did not start; see $OUT/$kind.log"
            tracer=
            read -ra what <<<"$(followed "$kind")"
            if ((${#what[@]})); then
                # shellcheck disable=SC2086  # a list of words
                taskset -c "$LOAD_CORE" "$RINGMQ" trace "${what[@]}" --json --for 120 $admin >"$OUT/$kind.trace" 2>&1 &
                tracer=$!
                sleep 0.3
                kill -0 $tracer 2>/dev/null || die "nothing is followed; see $OUT/$kind.trace"
            fi
            # shellcheck disable=SC2086  # lists of words
            timeout 120 "$BENCH" $args --case "$case" --label "$kind" --round "$round" --port "$PORT" --pid "$BROKER_PID" \
                --cores "$LOAD_CORE" --json "$OUT/runs/$case-$kind-$round.json" </dev/null || STATUS=1
            [[ -z $tracer ]] || { kill $tracer && wait $tracer; } 2>/dev/null
            stop_broker
        done
    done < <(traced_scenarios)
done

echo
"$BENCH" report "$OUT/runs" --baseline off --title "RingMQ without and with traces" \
    --markdown "$OUT/table.md" --json "$OUT/comparison.json" --html "$OUT/report.html" || STATUS=1
echo "report: $OUT/report.html"
exit $STATUS
