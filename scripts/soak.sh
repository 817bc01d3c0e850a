#!/usr/bin/env bash
# A mixed load with churn for a long time, which must lose nothing and leave nothing behind.
#   scripts/soak.sh [--minutes M] [--shards N] [--out DIR]       defaults: 30, 2, target/soak
#
# Beside clients that come, go, take each other over and misbehave (scripts/soak/churn.py) and subscribers that are stopped
# and continued, loads at a fixed rate verify every message by number. Memory and descriptors are sampled; the
# report (DIR/report.md) has their medians by quarter and their slopes. Exit status 1 if a message of QoS 1 or 2 was
# lost, duplicated or reordered, the broker ended or panicked, or memory or descriptors grew.
set -uo pipefail
cd "$(dirname "$0")/.."
MINUTES=30 SHARDS=2 OUT=${CARGO_TARGET_DIR:-target}/soak
while (($#)); do
    case $1 in
    --minutes) MINUTES=$2 && shift ;;
    --shards) SHARDS=$2 && shift ;;
    --out) OUT=$2 && shift ;;
    *) sed -n '2,9s/^# \{0,1\}//p' "$0" && exit 2 ;;
    esac
    shift
done
cargo build --release --locked --quiet --workspace --bins || exit 2
BIN=${CARGO_TARGET_DIR:-target}/release
SECONDS_ALL=$(awk -v m="$MINUTES" 'BEGIN { printf "%d", m * 60 }')
mkdir -p "$OUT" && rm -f "$OUT"/*
LOADS=()
trap 'kill "${LOADS[@]}" "$BROKER" 2>/dev/null; wait 2>/dev/null' EXIT

# A small budget, so that slowing and shedding are part of what is run.
"$BIN/ringmq" --listen 127.0.0.1:0 --shards "$SHARDS" --max-memory 67108864 --session-expiry 30 --sys-interval 1 \
    >"$OUT/broker.out" 2>"$OUT/broker.log" &
BROKER=$!
until grep -q '^ready' "$OUT/broker.out"; do kill -0 "$BROKER" 2>/dev/null || { cat "$OUT/broker.log" && exit 2; }; sleep 0.1; done
PORT=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\).*/\1/p' "$OUT/broker.out" | head -1)

memory() { awk '/^VmRSS/ { print $2 }' "/proc/$BROKER/status" 2>/dev/null; }
descriptors() { find "/proc/$BROKER/fd" -mindepth 1 2>/dev/null | wc -l; }
sleep 1
DESCRIPTORS_BEFORE=$(descriptors)

# verified NAME ARGS...: a load whose every message counts.
verified() {
    local name=$1
    shift
    "$BIN/ringmq-bench" "$@" -p "$PORT" --prefix "soak-$name" --duration "${SECONDS_ALL}s" --drain 30s --quiet --json "$OUT/$name.json" \
        >"$OUT/$name.log" 2>&1
    echo $? >"$OUT/$name.status"
}
# over and over until the time is over: what connects, works and leaves.
repeated() {
    local name=$1 until=$((SECONDS + SECONDS_ALL)) runs=0
    shift
    while ((SECONDS < until)); do
        "$BIN/ringmq-bench" "$@" -p "$PORT" --quiet >>"$OUT/$name.log" 2>&1 || { echo 1 >"$OUT/$name.status" && return; }
        runs=$((runs + 1)) && sleep 5
    done
    echo "$runs runs" >"$OUT/$name.runs"
    echo 0 >"$OUT/$name.status"
}
# Subscribers that are stopped and continued: their sockets fill, their queues fill, they catch up.
stopped() {
    local until=$((SECONDS + SECONDS_ALL)) pid
    "$BIN/ringmq-bench" sub -p "$PORT" -c 5 -t 'soak/stopped/#' -q 1 --prefix soak-stopped --quiet >/dev/null 2>&1 &
    pid=$!
    "$BIN/ringmq-bench" pub -p "$PORT" -c 5 -I 20 -t 'soak/stopped/%i' -q 1 -s 2000 --prefix soak-loud --quiet >/dev/null 2>&1 &
    trap 'kill -CONT $pid; kill $pid %2 2>/dev/null' EXIT
    while ((SECONDS < until)); do
        kill -STOP $pid && sleep 8 && kill -CONT $pid && sleep 4
    done
}

verified pairs-qos1 pairs -c 20 -q 1 --rate 2000 -t 'soak/p1/%i' & LOADS+=($!)
verified pairs-qos2 pairs -c 20 -q 2 --rate 500 -t 'soak/p2/%i' & LOADS+=($!)
verified fanout-qos1 fanout -c 50 -q 1 --rate 20 -t 'soak/fan/%i' & LOADS+=($!)
verified sharedsub-qos1 sharedsub -c 10 -q 1 --rate 500 -t 'soak/share/%i' & LOADS+=($!)
repeated connect connect -c 20 --duration 2s --warmup 0s & LOADS+=($!)
repeated subs subs -c 2000 & LOADS+=($!)
repeated retained retained -c 1000 & LOADS+=($!)
stopped & LOADS+=($!)
python3 scripts/soak/churn.py "$PORT" "$SECONDS_ALL" 40 >"$OUT/churn.log" 2>&1 & LOADS+=($!)
CHURN=$!

END=$((SECONDS + SECONDS_ALL))
while ((SECONDS < END)) && kill -0 "$BROKER" 2>/dev/null; do
    echo "$SECONDS $(memory) $(descriptors)" >>"$OUT/samples"
    sleep 2
done
wait "${LOADS[@]}"
wait "$CHURN"; echo $? >"$OUT/churn.status"
# Sessions that were left behind expire after 30 s.
sleep 35
MEMORY_AFTER=$(memory) DESCRIPTORS_AFTER=$(descriptors)

python3 - "$OUT" "$MINUTES" "$SHARDS" "$DESCRIPTORS_BEFORE" "${DESCRIPTORS_AFTER:-0}" "${MEMORY_AFTER:-0}" <<'PY' | tee "$OUT/report.md"
import json, pathlib, statistics, sys
out, minutes, shards, fds_before, fds_after, rss_after = pathlib.Path(sys.argv[1]), *sys.argv[2:]
faults = []
samples = [list(map(int, line.split())) for line in (out / "samples").read_text().splitlines() if len(line.split()) == 3]
print(f"{minutes} minutes, {shards} shards, {len(samples)} samples.\n")
print("| load | messages in | out | lost | duplicated | reordered | verdict |\n|---|---|---|---|---|---|---|")
for path in sorted(out.glob("*.status")):
    name, status = path.stem, path.read_text().strip()
    if status != "0":
        faults.append(f"{name}: exit status {status}")
    report = out / f"{name}.json"
    if report.exists():
        data = json.loads(report.read_text())
        verdict = data["verdict"]
        counts = [f"{data[way]['messages']:,}" for way in ("ingress", "egress")]
        print(f"| {name} | {counts[0]} | {counts[1]} | {verdict['lost']} | {verdict['duplicated']} | {verdict['reordered']} | {'ok' if status == '0' else 'FAULT'} |")
    else:
        runs = out / f"{name}.runs"
        text = runs.read_text().strip() if runs.exists() else ""
        print(f"| {name} | {text} | | | | | {'ok' if status == '0' else 'FAULT'} |")
print(f"\nChurn: {(out / 'churn.log').read_text().strip()}.\n")
def quarters(column):
    n = len(samples) // 4
    return [statistics.median(row[column] for row in samples[q * n:(q + 1) * n]) for q in range(4)]
def slope(column):
    # Least squares over the last three quarters, per hour.
    rows = samples[len(samples) // 4:]
    return statistics.linear_regression([row[0] for row in rows], [row[column] for row in rows]).slope * 3600
rss, fds = quarters(1), quarters(2)
print("| | medians by quarter | slope per hour | after the loads |\n|---|---|---|---|")
print(f"| memory, MiB | {' · '.join(f'{value / 1024:.1f}' for value in rss)} | {slope(1) / 1024:+.1f} | {int(rss_after) / 1024:.1f} |")
print(f"| descriptors | {' · '.join(f'{value:.0f}' for value in fds)} | {slope(2):+.1f} | {fds_after} (before: {fds_before}) |")
if rss[3] > rss[1] * 1.1 + 4096:
    faults.append("memory grew from the second quarter to the last")
if int(fds_after) > int(fds_before):
    faults.append("descriptors are left open")
log = (out / "broker.log").read_text()
if "panicked" in log or int(rss_after) == 0:
    faults.append("the broker panicked or ended")
print("\nVerdict: " + ("; ".join(faults) if faults else "nothing lost, nothing left behind") + ".")
sys.exit(bool(faults))
PY
STATUS=${PIPESTATUS[0]}
exit "$STATUS"
