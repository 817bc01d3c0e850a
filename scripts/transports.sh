#!/usr/bin/env bash
# What TLS and WebSocket cost RingMQ: the same scenarios over plain TCP, WebSocket, TLS and both, rounds interleaved, medians
# over rounds, CPU per message relative to plain TCP.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/bench-lib.sh"

usage() {
    cat <<EOF
Usage: scripts/transports.sh [--rounds N] [--quick] [--scenarios LIST] [--out DIR]

  --rounds N        rounds [5]
  --quick           two seconds per scenario, and one round if not told otherwise
  --scenarios LIST  only these, by the beginning of their names: pairs,connect
  --out DIR         where the results go [target/bench/transports]

Needs openssl for the certificate. In the scenario "connect" TLS sessions are resumed, as clients do that come again; in
"handshake" every connection makes a whole handshake. Leaves table.md, comparison.json and report.html in DIR.
EOF
}

ROUNDS='' QUICK='' ONLY='' OUT=$ROOT/target/bench/transports
while (($#)); do
    case $1 in
    --rounds) ROUNDS=$2 && shift ;;
    --quick) QUICK=--quick ;;
    --scenarios) ONLY=$2 && shift ;;
    --out) OUT=$2 && shift ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done
ROUNDS=${ROUNDS:-${QUICK:+1}}
ROUNDS=${ROUNDS:-5}

# The scenarios in which a message's way through the transport is a good part of what it costs.
transport_scenarios() {
    scenarios $QUICK | grep -E '^(ingest-qos0|ingest-qos1|pairs-qos1|fanout-qos0|telemetry-qos1|connect|idle) '
    scenarios $QUICK | sed -n 's/^connect connect /handshake connect --no-resumption /p'
}

mapfile -t CORES < <(allowed_cores)
BROKER_CORE=${CORES[0]}
LOAD_CORE=${CORES[1]:-${CORES[0]}}
build ringmq ringmq-bench
mkdir -p "$OUT/runs" && rm -f "$OUT"/runs/*.json "$OUT"/*.log
make_certificate "$OUT"

STATUS=0
for ((round = 1; round <= ROUNDS; round++)); do
    while read -r case args; do
        wanted "$case" "$ONLY" || continue
        echo "round $round of $ROUNDS: $case" >&2
        for transport in plain ws tls wss; do
            client=$args
            # Without TLS there is no handshake to make whole.
            [[ $transport == tls || $transport == wss ]] || client=${args/--no-resumption/}
            command="$(known_command ringmq "$case" "$BROKER_CORE" 1) $(transport_flags broker $transport "$OUT")"
            start_broker "$transport" "$command" "$BROKER_CORE" || die "the broker did not start; see $OUT/$transport.log"
            # shellcheck disable=SC2046,SC2086  # lists of words
            timeout 120 "$BENCH" $client $(transport_flags client $transport "$OUT") --case "$case" --label "$transport" \
                --round "$round" --port "$PORT" --pid "$BROKER_PID" --cores "$LOAD_CORE" \
                --json "$OUT/runs/$case-$transport-$round.json" </dev/null || STATUS=1
            stop_broker
        done
    done < <(transport_scenarios)
done

echo
"$BENCH" report "$OUT/runs" --baseline plain --title "RingMQ over plain TCP, WebSocket, TLS and both" \
    --markdown "$OUT/table.md" --json "$OUT/comparison.json" --html "$OUT/report.html" || STATUS=1
echo "report: $OUT/report.html"
exit $STATUS
