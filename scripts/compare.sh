#!/usr/bin/env bash
# The same scenarios against several brokers in turn: one core for the broker, another for the load, rounds interleaved
# (A B C A B C) so that drift of the machine cancels, medians over rounds, CPU per message relative to the first one's.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/bench-lib.sh"

usage() {
    cat <<EOF
Usage: scripts/compare.sh [OPTIONS] [NAME | NAME=COMMAND]...

  NAME              ringmq, mosquitto (Debian's), rumqttd (installed from crates.io into target/peers on first use),
                    or floor, the bare sockets that nothing can be cheaper than
  NAME=COMMAND      any other broker; {port} in COMMAND is where it must listen. One process, in the foreground:
                    nanomq='nanomq start --url nmq-tcp://127.0.0.1:{port}'
                    Without any: ringmq mosquitto rumqttd floor, as far as they are installed

  --rounds N        rounds [5]
  --quick           two seconds per scenario, and one round if not told otherwise: for a look, not for figures
  --scenarios LIST  only these, by the beginning of their names: pairs,fanout,latency
  --baseline NAME   whose cost is 1 [ringmq, else the first]
  --args "..."      more options for every scenario, such as "--nap 100us" or "-s 1024"
  --out DIR         where the results go [target/bench/compare]

Leaves table.md, comparison.json and report.html in DIR, and the JSON of every run beside them.
EOF
}

ROUNDS='' QUICK='' ONLY='' BASELINE='' ARGS='' OUT=$ROOT/target/bench/compare BROKERS=()
while (($#)); do
    case $1 in
    --rounds) ROUNDS=$2 && shift ;;
    --quick) QUICK=--quick ;;
    --scenarios) ONLY=$2 && shift ;;
    --baseline) BASELINE=$2 && shift ;;
    --args) ARGS=$2 && shift ;;
    --out) OUT=$2 && shift ;;
    --help) usage && exit 0 ;;
    -*) usage >&2 && exit 2 ;;
    *) BROKERS+=("$1") ;;
    esac
    shift
done
ROUNDS=${ROUNDS:-${QUICK:+1}}
ROUNDS=${ROUNDS:-5}
if ((${#BROKERS[@]} == 0)); then
    BROKERS=(ringmq)
    [[ -x $(command -v mosquitto || echo /usr/sbin/mosquitto) ]] && BROKERS+=(mosquitto)
    [[ -x $PEERS/bin/rumqttd ]] && BROKERS+=(rumqttd)
    BROKERS+=(floor)
fi
if [[ -z $BASELINE ]]; then
    BASELINE=${BROKERS[0]%%=*}
    for broker in "${BROKERS[@]}"; do [[ ${broker%%=*} == ringmq ]] && BASELINE=ringmq; done
fi

mapfile -t CORES < <(allowed_cores)
BROKER_CORE=${CORES[0]}
LOAD_CORE=${CORES[1]:-${CORES[0]}}
((${#CORES[@]} > 1)) || echo "warning: one core for broker and load; throughput means little, CPU per message still does" >&2

PACKAGES=(ringmq-bench)
for broker in "${BROKERS[@]}"; do
    case $broker in
    ringmq) PACKAGES+=(ringmq) ;;
    rumqttd)
        [[ -x $PEERS/bin/rumqttd ]] || install_rumqttd ||
            die "rumqttd could not be installed"
        ;;
    esac
done
build "${PACKAGES[@]}"
mkdir -p "$OUT/runs" && rm -f "$OUT"/runs/*.json "$OUT"/*.log "$OUT"/*.conf "$OUT"/*.toml

# run_one ROUND CASE ARGS BROKER
run_one() {
    local round=$1 case=$2 args=$3 name=${4%%=*} command
    [[ $name != floor ]] || has_floor "$case" || return 0
    if [[ $4 == *=* ]]; then
        command=${4#*=}
    else
        command=$(known_command "$name" "$case" "$BROKER_CORE" 1) || die "$name is not known; give NAME=COMMAND"
    fi
    start_broker "$name" "$command" "$BROKER_CORE" || die "$name did not start; see $OUT/$name.log"
    # shellcheck disable=SC2086  # the scenario and the arguments are lists of words
    timeout 120 "$BENCH" $args $ARGS --case "$case" --label "$name" --round "$round" --port "$PORT" --pid "$BROKER_PID" \
        --cores "$LOAD_CORE" --json "$OUT/runs/$case-$name-$round.json" </dev/null
    case $? in
    0) ;;
    124)
        # It reported what it had when it was stopped, which is no result.
        rm -f "$OUT/runs/$case-$name-$round.json"
        FAULTY+=("$name $case round $round: longer than two minutes, left out")
        ;;
    *) FAULTY+=("$name $case round $round") ;;
    esac
    stop_broker
}

FAULTY=()
for ((round = 1; round <= ROUNDS; round++)); do
    while read -r case args; do
        wanted "$case" "$ONLY" || continue
        echo "round $round of $ROUNDS: $case" >&2
        for broker in "${BROKERS[@]}"; do run_one "$round" "$case" "$args" "$broker"; done
    done < <(scenarios $QUICK)
done

echo
"$BENCH" report "$OUT/runs" --baseline "$BASELINE" --title "MQTT brokers on one core: ${BROKERS[*]%%=*}" \
    --markdown "$OUT/table.md" --json "$OUT/comparison.json" --html "$OUT/report.html"
((${#FAULTY[@]} == 0)) || printf 'not clean: %s\n' "${FAULTY[@]}"
echo "report: $OUT/report.html"
# A peer that loses messages is a finding; RingMQ that does is a failure.
for fault in "${FAULTY[@]}"; do [[ $fault == "$BASELINE "* ]] && exit 1; done
exit 0
