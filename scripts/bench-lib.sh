# Sourced by the benchmark scripts: which cores there are, how brokers start and stop, what the scenarios are.
# shellcheck shell=bash
# shellcheck disable=SC2034  # variables are used by the scripts that source this

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
BENCH=$TARGET/release/ringmq-bench
RINGMQ=$TARGET/release/ringmq
PEERS=$ROOT/target/peers
RUMQTTD_VERSION=0.20.0

BROKER_PID=
trap 'stop_broker' EXIT
trap 'exit 130' INT TERM

die() {
    echo "$(basename "$0"): $*" >&2
    exit 2
}

# The cores that this process may use, one per line.
allowed_cores() {
    local part
    for part in $(sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status | tr ',' ' '); do
        seq "${part%-*}" "${part#*-}"
    done
}

# build PACKAGE...: release builds.
build() {
    local flags=() package
    for package in "$@"; do flags+=(-p "$package"); done
    (cd "$ROOT" && cargo build --release --locked --quiet "${flags[@]}") || die "the build failed"
}

# Without TLS and WebSockets, which the scenarios do not use, and without its lock file, whose `metrics` 0.22.1 no longer
# compiles.
install_rumqttd() {
    cargo install rumqttd --version $RUMQTTD_VERSION --no-default-features --root "$PEERS"
}

# The highest number of connections that fits the limit of open files, at most $1.
connections() {
    local limit
    limit=$(ulimit -Hn)
    if [[ $limit != unlimited ]] && ((limit - 200 < $1)); then echo $((limit - 200)); else echo "$1"; fi
}

# free_port: a port on which nobody listens; below the range that clients get theirs from.
free_port() {
    local port
    while :; do
        port=$((20000 + RANDOM % 10000))
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

# known_command NAME SCENARIO CORES SHARDS: how to start a broker that this script knows; {port} stays.
known_command() {
    case $1 in
    ringmq) echo "$RINGMQ --listen 127.0.0.1:{port} --shards $4 --cores $3" ;;
    mosquitto) echo "$(command -v mosquitto || echo /usr/sbin/mosquitto) -c $OUT/mosquitto-{port}.conf" ;;
    rumqttd) echo "$PEERS/bin/rumqttd --config $OUT/rumqttd-{port}.toml --quiet" ;;
    floor)
        local kind
        case $2 in
        ingest-qos0 | connect) kind=sink ;;
        ingest*) kind=ack ;;
        pairs* | fanin* | latency*) kind=relay ;;
        *) kind=fan ;;
        esac
        echo "$BENCH floor $kind --port {port}"
        ;;
    *) return 1 ;;
    esac
}

# Configuration files of the brokers that need one. Limits that would make a broker drop or refuse are raised, logging
# and persistence are off, so that all brokers do the same work.
write_config() {
    case $1 in
    mosquitto)
        cat >"$OUT/mosquitto-$2.conf" <<EOF
listener $2 127.0.0.1
allow_anonymous true
persistence false
log_type error
set_tcp_nodelay true
max_queued_messages 0
max_queued_bytes 0
max_inflight_messages 0
user $(id -un)
EOF
        ;;
    rumqttd)
        cat >"$OUT/rumqttd-$2.toml" <<EOF
id = 0
[router]
id = 0
max_connections = 60000
max_outgoing_packet_count = 200
max_segment_size = 104857600
max_segment_count = 10
[v4.1]
name = "v4-1"
listen = "127.0.0.1:$2"
next_connection_delay_ms = 0
    [v4.1.connections]
    connection_timeout_ms = 60000
    max_payload_size = 20480
    max_inflight_count = 100
    dynamic_filters = true
EOF
        ;;
    esac
}

# start_broker NAME COMMAND CORES: starts it pinned, waits until it listens; sets BROKER_PID and PORT.
start_broker() {
    local name=$1 command=$2 cores=$3 try
    PORT=$(free_port)
    write_config "$name" "$PORT"
    command=${command//\{port\}/$PORT}
    ulimit -Sn "$(ulimit -Hn)"
    taskset -c "$cores" bash -c "exec $command" >>"$OUT/$name.log" 2>&1 </dev/null &
    BROKER_PID=$!
    for ((try = 0; try < 200; try++)); do
        kill -0 "$BROKER_PID" 2>/dev/null || { BROKER_PID= && tail -5 "$OUT/$name.log" >&2 && return 1; }
        (exec 3<>"/dev/tcp/127.0.0.1/$PORT") 2>/dev/null && sleep 0.1 && return 0
        sleep 0.05
    done
    echo "$name does not listen on port $PORT" >&2
    return 1
}

stop_broker() {
    [[ -n $BROKER_PID ]] || return 0
    kill "$BROKER_PID" 2>/dev/null
    local try
    for ((try = 0; try < 100; try++)); do
        kill -0 "$BROKER_PID" 2>/dev/null || break
        sleep 0.05
    done
    kill -9 "$BROKER_PID" 2>/dev/null
    wait "$BROKER_PID" 2>/dev/null
    BROKER_PID=
}

# make_certificate DIR: DIR/server.pem and DIR/server.key for localhost and 127.0.0.1, signed by themselves.
make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE \
        -keyout "$1/server.key" -out "$1/server.pem" 2>"$1/openssl.log" || die "openssl made no certificate; see $1/openssl.log"
}

# transport_flags broker|client plain|ws|tls|wss DIR: what each side needs for it; make_certificate was for DIR.
transport_flags() {
    local tls='' ws=''
    if [[ $1 == broker ]]; then
        tls="--tls-certificate $3/server.pem --tls-key $3/server.key" ws=--websocket
    else
        tls="--ssl --cafile $3/server.pem" ws=--ws
    fi
    case $2 in
    plain) ;;
    ws) echo "$ws" ;;
    tls) echo "$tls" ;;
    wss) echo "$tls $ws" ;;
    esac
}

# scenarios [--quick]: one per line, its name and then the command line.
scenarios() {
    local time="--warmup 2 --duration 6" idle=10000 subs=100000 retained=10000
    if [[ ${1:-} == --quick ]]; then
        time="--warmup 0.5 --duration 2" idle=2000 subs=20000 retained=5000
    fi
    cat <<EOF
ingest-qos0 ingest -q 0 $time
ingest-qos1 ingest -q 1 $time
pairs-qos0 pairs -q 0 $time
pairs-qos1 pairs -q 1 $time
pairs-qos2 pairs -q 2 $time
fanin-qos0 fanin -q 0 $time
fanout-qos0 fanout -q 0 $time
telemetry-qos1 telemetry -q 1 $time
sharedsub-qos1 sharedsub -q 1 $time
latency-qos1 latency -q 1 --rate 10000 $time
connect connect $time
idle idle -c $(connections $idle) --warmup 1 --duration 3
subs subs -c $subs
retained retained -c $retained
EOF
}

# Scenarios that a floor can stand in for; it keeps nothing, so what a broker keeps has no floor.
has_floor() {
    case $1 in idle | subs | retained) return 1 ;; esac
}

# wanted NAME LIST: NAME is in the comma-separated LIST, or begins with an entry of it; an empty list wants all.
wanted() {
    local entry
    [[ -z $2 ]] && return 0
    for entry in ${2//,/ }; do [[ $1 == "$entry"* ]] && return 0; done
    return 1
}
