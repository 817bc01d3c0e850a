#!/usr/bin/env bash
# The broker and a real browser, with 1 and 2 shards: pages that speak MQTT over ws and wss with mqtt.js, and the status page and the
# API under load, all in headless Chromium driven by Playwright. Prints a line per case and `N passed, N failed`; screenshots are
# left in target/browser. Exit 1 if a case failed, 77 if Chromium or Node cannot be had (never with CI=true: a failure there).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
source scripts/interop/lib.sh

[[ ${1:-} == --help ]] && sed -n '2,4s/^# //p' "$0" && exit 0
cargo build --locked -p ringmq -p ringmq-bench || exit 2
TARGET=${CARGO_TARGET_DIR:-target}

if ! command -v chromium >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } >/dev/null 2>&1 ||
        missing "Chromium is not installed and could not be"
fi
need_node mqtt@5.16.0 playwright-core@1.65.1

OUT=$TARGET/browser WORK=$(mktemp -d)
mkdir -p "$OUT"
BROKER_PID=
cleanup() {
    [[ -n $BROKER_PID ]] && kill -CONT "$BROKER_PID" 2>/dev/null && kill "$BROKER_PID" 2>/dev/null
    rm -rf "$WORK"
}
trap cleanup EXIT

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 \
    -keyout "$WORK/server.key" -out "$WORK/server.pem" 2>"$WORK/openssl" || missing "openssl made no certificate: $(cat "$WORK/openssl")"
echo "a-token-for-a-minute" >"$WORK/token" && chmod 600 "$WORK/token"

listening() { sed -n "s/.*$1 on \(http:\/\/\)\?127.0.0.1:\([0-9]*\)$2\$/\2/p" "$WORK/out"; }

start() {
    cat >"$WORK/ringmq.toml" <<-END
	admin_listen = "127.0.0.1:0"
	admin_token_file = "$WORK/token"
	max_output_bytes = 65536

	[[listener]]
	listen = "127.0.0.1:0"

	[[listener]]
	listen = "127.0.0.1:0"
	websocket = true

	[[listener]]
	listen = "127.0.0.1:0"
	websocket = true
	tls_certificate = "$WORK/server.pem"
	tls_key = "$WORK/server.key"

	[[listener]]
	listen = "127.0.0.1:0"
	websocket = true
	websocket_path = "/guarded"
	websocket_origin = "https://elsewhere.example"
	END
    "$TARGET/debug/ringmq" --config "$WORK/ringmq.toml" --shards "$SHARDS" >"$WORK/out" 2>"$WORK/log" &
    BROKER_PID=$!
    disown "$BROKER_PID"
    for _ in $(seq 200); do
        grep -q '^ready' "$WORK/out" && return
        kill -0 "$BROKER_PID" 2>/dev/null || { cat "$WORK/log" >&2 && exit 2; }
        sleep 0.05
    done
}

for SHARDS in 1 2; do
    start
    cat >"$WORK/world.json" <<-END
	{
	  "node": "$NODE", "out": "$(cd "$OUT" && pwd)", "shards": $SHARDS, "pid": $BROKER_PID, "token": "$(cat "$WORK/token")",
	  "bench": "$(cd "$TARGET" && pwd)/debug/ringmq-bench", "chromium": "$(command -v chromium)",
	  "mqtt": "$(listening listening '')", "ws": "$(listening listening ', WebSocket at \/mqtt')", "wss": "$(listening listening ', TLS, WebSocket at \/mqtt')",
	  "guarded": "$(listening listening ', WebSocket at \/guarded')", "admin": "$(listening admin '')"
	}
	END
    for cases in mqtt status; do
        report "chromium, $cases" < <(timeout -k 5 240 node "scripts/interop/browser_$cases.mjs" "$WORK/world.json" 2>&1)
    done
    check "the broker is still there" "yes" "$(kill -0 "$BROKER_PID" && echo yes)"
    check "no panic in the log" "0" "$(grep -c panicked "$WORK/log")"
    kill -TERM "$BROKER_PID"
    for _ in $(seq 200); do kill -0 "$BROKER_PID" 2>/dev/null || break && sleep 0.05; done
    BROKER_PID=
done
printf '%d passed, %d failed; screenshots are in %s\n' "$PASSED" "$FAILED" "$OUT"
[[ $FAILED == 0 ]]
