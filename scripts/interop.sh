#!/usr/bin/env bash
# The broker against clients that nobody here wrote: Mosquitto's command-line clients, over TLS too, Paho for Python, both over a
# Unix domain socket too, and mqtt.js over WebSocket and TLS, with 1 and 2 shards. Prints a line per case and
# `N passed, N failed`; exit 1 if one failed, 77 if a client cannot be had (never with CI=true, where that is a failure).
set -uo pipefail
cd "$(dirname "$0")/.." || exit 2
source scripts/interop/lib.sh

PROFILE=debug
case ${1:-} in
--release) PROFILE=release ;;
--help) sed -n '2,4s/^# //p' "$0" && exit 0 ;;
esac
if [[ $PROFILE == release ]]; then cargo build --release --locked || exit 2; else cargo build --locked || exit 2; fi
BROKER=${CARGO_TARGET_DIR:-target}/$PROFILE/ringmq

# What is needed and how it gets here.
if ! command -v mosquitto_sub >/dev/null; then
    { apt-get update -qq && apt-get install -y -qq --no-install-recommends mosquitto-clients; } >/dev/null 2>&1 ||
        missing "mosquitto-clients is not installed and could not be"
fi
VENV=${CARGO_TARGET_DIR:-target}/interop-venv
if ! "$VENV/bin/python" -c 'import paho.mqtt.client' 2>/dev/null; then
    { python3 -m venv "$VENV" && "$VENV/bin/pip" install -q 'paho-mqtt==2.1.0'; } >/dev/null ||
        missing "Paho for Python could not be installed into $VENV"
fi
need_node mqtt@5.16.0

WORK=$(mktemp -d)
BROKER_PID=
cleanup() {
    [[ -n $BROKER_PID ]] && kill "$BROKER_PID" 2>/dev/null
    rm -rf "$WORK"
}
trap cleanup EXIT

# Whether a process is there and more than a zombie.
running() { grep -qs '^State:[[:space:]]*[^ZX]' "/proc/$1/status"; }

# An authority, and from it a certificate with RSA for the server and one with ECDSA for a client; and another authority.
certificates() {
    local ec=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
    openssl req -x509 "${ec[@]}" -days 1 -subj /CN=authority -keyout "$WORK/ca.key" -out "$WORK/ca.pem" &&
        openssl req -x509 "${ec[@]}" -days 1 -subj /CN=other -keyout "$WORK/other.key" -out "$WORK/other.pem" &&
        openssl req -newkey rsa:2048 -nodes -subj /CN=server -keyout "$WORK/server.key" -out "$WORK/server.csr" &&
        openssl req "${ec[@]}" -subj /CN=ann -keyout "$WORK/client.key" -out "$WORK/client.csr" &&
        sign server 'subjectAltName=DNS:localhost,IP:127.0.0.1' && sign client 'extendedKeyUsage=clientAuth'
}
sign() { # NAME EXTENSION
    openssl x509 -req -in "$WORK/$1.csr" -CA "$WORK/ca.pem" -CAkey "$WORK/ca.key" -CAcreateserial -days 1 \
        -extfile <(echo "$2") -out "$WORK/$1.pem"
}

start() {
    : >"$WORK/out"
    cat >"$WORK/ringmq.toml" <<-END
	[[listener]]
	listen = "127.0.0.1:0"

	[[listener]]
	listen = "unix:$WORK/mqtt.sock"

	[[listener]]
	listen = "127.0.0.1:0"
	tls_certificate = "$WORK/server.pem"
	tls_key = "$WORK/server.key"
	tls_client_ca = "$WORK/ca.pem"
	tls_client_certificates = "optional"

	[[listener]]
	listen = "127.0.0.1:0"
	websocket = true

	[[listener]]
	listen = "127.0.0.1:0"
	websocket = true
	tls_certificate = "$WORK/server.pem"
	tls_key = "$WORK/server.key"
	END
    "$BROKER" --config "$WORK/ringmq.toml" --shards "$SHARDS" --sys-interval 1 >"$WORK/out" 2>"$WORK/log" &
    BROKER_PID=$!
    for _ in $(seq 200); do
        grep -q '^ready' "$WORK/out" && break
        kill -0 "$BROKER_PID" 2>/dev/null || { cat "$WORK/log" >&2 && exit 2; }
        sleep 0.05
    done
    PORT=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\)$/\1/p' "$WORK/out")
    TLS_PORT=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\), TLS$/\1/p' "$WORK/out")
    WS_PORT=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\), WebSocket.*/\1/p' "$WORK/out")
    WSS_PORT=$(sed -n 's/.*listening on 127.0.0.1:\([0-9]*\), TLS, WebSocket.*/\1/p' "$WORK/out")
}

# A client that does not even end when asked to (one in a signal handler may wait for itself) is ended all the same.
limited() { timeout -k 2 "$@"; }
pub() { limited 20 mosquitto_pub -p "$PORT" "$@"; }
# Subscribes in the background, writes what arrives to FILE.debug, and returns once the SUBACK is there.
subscribe() { # FILE ARGS...
    local file=$1
    shift
    # What an earlier case wrote must not be taken for this one's SUBACK.
    : >"$file.debug"
    limited 20 stdbuf -oL mosquitto_sub -p "$PORT" -d "$@" >"$file.debug" 2>&1 &
    SUB_PID=$!
    for _ in $(seq 200); do
        grep -q 'Subscribed' "$file.debug" && return
        sleep 0.05
    done
}
# Waits for the subscriber's end and gives its messages, without what -d adds.
messages() { # FILE
    # It runs in a subshell, which cannot `wait` for a job of its parent; and the parent may be slow to reap it.
    while running "$SUB_PID"; do sleep 0.02; done
    grep -v -e '^Client ' -e '^Subscribed' "$1.debug" | paste -sd' '
}

mosquitto_cases() {
    local published granted
    for published in 0 1 2; do
        for granted in 0 1 2; do
            subscribe "$WORK/qos" -t "qos/+" -q $granted -F '%t=%p' -C 1
            pub -t "qos/$published" -q $published -m hello
            check "mosquitto: QoS $published to $granted" "qos/$published=hello" "$(messages "$WORK/qos")"
            check "mosquitto: QoS $published to $granted, the lesser" "q$((published < granted ? published : granted))" \
                "$(grep -o 'received PUBLISH (d0, q[0-2]' "$WORK/qos.debug" | grep -o 'q[0-2]')"
        done
    done

    pub -t keep/a -r -q 1 -m old
    pub -t keep/a -r -q 1 -m new
    subscribe "$WORK/retained" -t 'keep/#' -F '%t=%p,%r' -C 1 -W 5
    check "mosquitto: retained" "keep/a=new,1" "$(messages "$WORK/retained")"
    pub -t keep/a -r -n
    subscribe "$WORK/cleared" -t 'keep/#' -F '%t=%p,%r' -C 1 -W 1
    check "mosquitto: retained, cleared" "" "$(messages "$WORK/cleared" | grep -v Timed)"

    subscribe "$WORK/will" -t 'last/words' -C 1 -W 10
    # In a shell of its own, which keeps quiet about the kill.
    (exec 2>/dev/null && timeout -s KILL 1 mosquitto_sub -p "$PORT" -i mortal -t x --will-topic last/words \
        --will-payload gone --will-qos 1 >/dev/null)
    check "mosquitto: Will after an abrupt end" "gone" "$(messages "$WORK/will")"

    limited 10 mosquitto_sub -p "$PORT" -i keeper -c -q 1 -t 'stored/#' -E >/dev/null
    for n in 1 2 3; do pub -t stored/x -q 1 -m "$n"; done
    subscribe "$WORK/resume" -i keeper -c -q 1 -t 'stored/#' -C 3 -W 10
    check "mosquitto: a persistent session gets what it missed" "1 2 3" "$(messages "$WORK/resume")"

    subscribe "$WORK/first" -i twin -t takeover/x -W 10
    local first=$SUB_PID
    subscribe "$WORK/second" -i twin -t takeover/x -C 1 -W 10
    pub -t takeover/x -q 1 -m here
    check "mosquitto: the second of one Client Identifier takes over" "here" "$(messages "$WORK/second")"
    kill "$first" 2>/dev/null
    wait "$first" 2>/dev/null

    subscribe "$WORK/wild" -t '+/wild/#' -t '#' -F '%t' -C 3 -W 5
    pub -t a/wild -m x
    pub -t '$private/wild' -m x
    pub -t a/wild/b/c -m x
    pub -t /wild -m x
    check "mosquitto: wildcards, and \$ topics apart" "a/wild a/wild/b/c /wild" "$(messages "$WORK/wild")"

    subscribe "$WORK/sys" -t '$SYS/broker/clients/connected' -C 1 -W 10
    check "mosquitto: \$SYS" "yes" "$(messages "$WORK/sys" | grep -qE '^[0-9]+$' && echo yes)"

    head -c 1000000 /dev/urandom >"$WORK/large"
    limited 20 mosquitto_sub -p "$PORT" -t large -q 2 -C 1 -N >"$WORK/large.got" &
    SUB_PID=$!
    subscribe "$WORK/larger" -t large -q 1 -F '%l' -C 1 -W 10
    local counted=$SUB_PID
    sleep 0.5
    pub -t large -q 2 -f "$WORK/large"
    SUB_PID=$counted
    check "mosquitto: 1 MB" "1000000" "$(messages "$WORK/larger")"
    wait
    check "mosquitto: 1 MB, byte by byte" "same" "$(cmp -s "$WORK/large" "$WORK/large.got" && echo same)"

    check "mosquitto: MQTT 3.1" "0" "$(pub -V mqttv31 -t x -m x >/dev/null 2>&1 && echo $?)"
    check "mosquitto: MQTT 5 is refused" "refused" "$(pub -V mqttv5 -t x -m x >/dev/null 2>&1 || echo refused)"

    subscribe "$WORK/member1" -t '$share/g/work/+' -q 1 -C 5 -W 10
    local one=$SUB_PID
    subscribe "$WORK/member2" -t '$share/g/work/+' -q 1 -C 5 -W 10
    for n in 0 1 2 3 4 5 6 7 8 9; do echo "$n"; done | pub -t work/x -q 1 -l
    wait "$one"
    check "mosquitto: shared subscription" "0 1 2 3 4 5 6 7 8 9" \
        "$({ messages "$WORK/member1" && messages "$WORK/member2"; } | tr ' ' '\n' | sort | paste -sd' ')"
}

tls_cases() {
    local tls=(-h localhost -p "$TLS_PORT" --cafile "$WORK/ca.pem") shown=(--cert "$WORK/client.pem" --key "$WORK/client.key") version
    for version in tlsv1.2 tlsv1.3; do
        subscribe "$WORK/tls" "${tls[@]}" --tls-version $version -t tls/x -q 2 -C 2 -W 10
        limited 10 mosquitto_pub "${tls[@]}" --tls-version $version -t tls/x -q 2 -m secret
        pub -t tls/x -q 1 -m plain
        check "mosquitto: $version" "secret plain" "$(messages "$WORK/tls")"
    done
    check "mosquitto: a client's certificate" "yes" \
        "$(limited 10 mosquitto_pub "${tls[@]}" "${shown[@]}" --tls-alpn mqtt -t x -m x 2>/dev/null && echo yes)"
    check "mosquitto: a client's certificate that is nobody's" "refused" \
        "$(limited 10 mosquitto_pub "${tls[@]}" --cert "$WORK/other.pem" --key "$WORK/other.key" -t x -m x >/dev/null 2>&1 || echo refused)"
    check "mosquitto: a server that is not the one" "refused" \
        "$(limited 10 mosquitto_pub "${tls[@]}" --cafile "$WORK/other.pem" -t x -m x >/dev/null 2>&1 || echo refused)"
    subscribe "$WORK/tls" "${tls[@]}" -t tls/large -q 1 -F '%l' -C 1 -W 10
    limited 20 mosquitto_pub "${tls[@]}" -t tls/large -q 2 -f "$WORK/large"
    check "mosquitto: 1 MB over TLS" "1000000" "$(messages "$WORK/tls")"
    check "openssl: a session is resumed" "yes" \
        "$(limited 10 openssl s_client -connect "localhost:$TLS_PORT" -tls1_2 -reconnect </dev/null 2>/dev/null | grep -q '^Reused' && echo yes)"
    # "R" on a line of its own asks for it.
    check "openssl: renegotiation is refused" "no renegotiation" \
        "$({ sleep 0.5 && echo R && sleep 0.5; } | limited 10 openssl s_client -connect "localhost:$TLS_PORT" -tls1_2 2>&1 | grep -o 'no renegotiation')"
}

unix_cases() {
    subscribe "$WORK/unix" --unix "$WORK/mqtt.sock" -t 'unix/#' -q 2 -F '%l' -C 2 -W 10
    limited 10 mosquitto_pub --unix "$WORK/mqtt.sock" -t unix/large -q 2 -f "$WORK/large"
    pub -t unix/small -q 1 -m plain
    check "mosquitto: over a unix socket" "1000000 5" "$(messages "$WORK/unix")"
}

certificates 2>"$WORK/openssl" >&2 || { cat "$WORK/openssl" && missing "openssl made no certificates"; }

for SHARDS in 1 2; do
    start
    # `wait` without a job would wait for the broker too.
    disown "$BROKER_PID"
    mosquitto_cases
    tls_cases
    unix_cases
    report paho < <(limited 120 "$VENV/bin/python" scripts/interop/paho_cases.py "$PORT" "$WORK/mqtt.sock" 2>&1)
    report mqtt.js < <(limited 120 node scripts/interop/mqttjs_cases.mjs "$NODE" "$WS_PORT" "$WSS_PORT" "$WORK/ca.pem" 2>&1)
    check "the broker is still there" "yes" "$(kill -0 "$BROKER_PID" && echo yes)"
    check "no panic in the log" "0" "$(grep -c panicked "$WORK/log")"
    kill -TERM "$BROKER_PID"
    for _ in $(seq 200); do kill -0 "$BROKER_PID" 2>/dev/null || break && sleep 0.05; done
    check "SIGTERM ends it" "gone" "$(kill -0 "$BROKER_PID" 2>/dev/null || echo gone)"
    BROKER_PID=
done
printf '%d passed, %d failed\n' "$PASSED" "$FAILED"
[[ $FAILED == 0 ]]
