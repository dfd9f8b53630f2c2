#!/usr/bin/env bash
# Real servers for the tests: Elasticsearch 8, PostgreSQL, Redis and RabbitMQ on 127.0.0.1.
#
#   scripts/services.sh start [NAME...]   install, start, wait until ready
#   scripts/services.sh stop  [NAME...]   end what `start` started
#   scripts/services.sh env   [NAME...]   print the variables again
#
# NAME is elasticsearch, postgres, redis or rabbitmq; without names all four are meant. `start`
# writes progress to stderr and `export ...` lines to stdout, so `eval "$(scripts/services.sh start)"`
# leaves a shell in which `pytest` finds them. Data, logs and process ids lie in
# $IMAGINGX_SERVICES_DIR (default var/services). Missing Debian packages are installed with apt-get,
# which needs root. Elasticsearch and PostgreSQL refuse to run as root: for root the script makes and
# uses the account "imagingx-services".
#
# A second set beside the first has its own folder and ports: IMAGINGX_SERVICES_ES_PORT (9201),
# _PG_PORT (5544), _REDIS_PORT (6399), _RABBITMQ_PORT (5679; it also takes the two ports 20000 and
# 20001 above). IMAGINGX_SERVICES_HOST is the address to listen on; the servers ask for no password,
# so it must be one that only this machine reaches.
set -euo pipefail

ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
DIR="$(realpath -m "${IMAGINGX_SERVICES_DIR:-$ROOT/var/services}")"
ES_VERSION=8.19.21 # the client's major and minor version: see requirements.txt
HOST="${IMAGINGX_SERVICES_HOST:-127.0.0.1}"
ES_PORT="${IMAGINGX_SERVICES_ES_PORT:-9201}"
PG_PORT="${IMAGINGX_SERVICES_PG_PORT:-5544}"
REDIS_PORT="${IMAGINGX_SERVICES_REDIS_PORT:-6399}"
RABBITMQ_PORT="${IMAGINGX_SERVICES_RABBITMQ_PORT:-5679}"
ACCOUNT=imagingx-services

say() { echo "services: $*" >&2; }
die() { say "$*"; exit 1; }

# need COMMAND PACKAGE: install PACKAGE when COMMAND cannot be found.
need() {
    command -v "$1" >/dev/null 2>&1 && return
    [ "$(id -u)" = 0 ] || die "$1 is missing; as root: apt-get install $2"
    say "installing $2"
    export DEBIAN_FRONTEND=noninteractive
    apt-get install -y -qq --no-install-recommends "$2" >&2 ||
        { apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends "$2" >&2; }
}

# COMMAND...: while Debian's packages may start nothing of their own.
refuse_system_services() {
    local policy=/usr/sbin/policy-rc.d
    if [ -e "$policy" ]; then "$@"; return; fi
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    ("$@") || { rm -f "$policy"; die "$* failed"; }
    rm -f "$policy"
}

# Run a command as an ordinary user in a folder that user may read.
unprivileged() {
    if [ "$(id -u)" = 0 ]; then
        (cd / && runuser -u "$ACCOUNT" -- "$@")
    else
        (cd / && "$@")
    fi
}

make_folder() {
    mkdir -p "$1"
    if [ "$(id -u)" = 0 ]; then
        id "$ACCOUNT" >/dev/null 2>&1 ||
            useradd --system --no-create-home --shell /usr/sbin/nologin "$ACCOUNT"
        chown -R "$ACCOUNT" "$1"
    fi
}

# alive PIDFILE: the process that `start` wrote down still runs.
alive() { [ -s "$1" ] && kill -0 "$(head -n 1 "$1")" 2>/dev/null; }

port_taken() { (exec 3<>"/dev/tcp/$HOST/$1") 2>/dev/null; }

refuse_foreign() { # NAME PORT
    ! port_taken "$2" || die "$1: port $2 is taken by a process that this script did not start"
}

# await NAME SECONDS LOG COMMAND...: until COMMAND succeeds.
await() {
    local name="$1" left="$2" log="$3"
    shift 3
    until "$@" >/dev/null 2>&1; do
        left=$((left - 1))
        [ "$left" -gt 0 ] || { tail -n 30 "$log" >&2 || true; die "$name: not ready, see $log"; }
        sleep 1
    done
    say "$name is ready"
}

# end NAME PIDFILE [SIGNAL]: ask the process to stop, wait for it.
end() {
    alive "$2" || { say "$1 is not running"; return; }
    local pid
    pid="$(head -n 1 "$2")"
    kill -s "${3:-TERM}" "$pid"
    for _ in $(seq 30); do
        kill -0 "$pid" 2>/dev/null || { say "$1 has stopped"; rm -f "$2"; return; }
        sleep 1
    done
    die "$1: process $pid still runs 30 s after SIGTERM"
}

# ---- Elasticsearch: the minimal distribution that Elastic publishes for integration tests ----
elasticsearch_health() {
    curl -sf --noproxy '*' "http://$HOST:$ES_PORT/_cluster/health?wait_for_status=yellow&timeout=1s"
}
start_elasticsearch() {
    local folder="$DIR/elasticsearch"
    local home="$folder/elasticsearch-$ES_VERSION"
    alive "$folder/pid" && elasticsearch_health >/dev/null && { say "elasticsearch runs"; return; }
    refuse_foreign elasticsearch "$ES_PORT"
    need java openjdk-17-jre-headless
    need curl curl
    mkdir -p "$folder"
    if [ ! -x "$home/bin/elasticsearch" ]; then
        need mvn maven
        need unzip unzip
        say "fetching elasticsearch $ES_VERSION"
        mvn -q -B dependency:copy -DoutputDirectory="$folder" -Dmdep.overWriteReleases=true \
            -Dartifact="org.elasticsearch.distribution.integ-test-zip:elasticsearch:$ES_VERSION:zip" >&2
        unzip -q -o "$folder/elasticsearch-$ES_VERSION.zip" -d "$folder"
        rm "$folder/elasticsearch-$ES_VERSION.zip"
    fi
    cat >"$home/config/elasticsearch.yml" <<YAML
cluster.name: imagingx-tests
discovery.type: single-node
network.host: $HOST
http.port: $ES_PORT
path.data: $folder/data
path.logs: $folder/logs
cluster.routing.allocation.disk.threshold_enabled: false
xpack.security.enabled: false
YAML
    make_folder "$folder"
    local java
    java="$(dirname "$(dirname "$(readlink -f "$(command -v java)")")")"
    unprivileged env ES_JAVA_HOME="$java" ES_JAVA_OPTS="-Xms512m -Xmx512m" \
        "$home/bin/elasticsearch" -d -p "$folder/pid" >"$DIR/elasticsearch.log" 2>&1 </dev/null ||
        { tail -n 30 "$DIR/elasticsearch.log" >&2; die "elasticsearch did not start"; }
    await elasticsearch 120 "$DIR/elasticsearch.log" elasticsearch_health
}
stop_elasticsearch() { end elasticsearch "$DIR/elasticsearch/pid"; }
env_elasticsearch() { echo "export IMAGINGX_TEST_SEARCH_URL=http://$HOST:$ES_PORT"; }

# ---- PostgreSQL: Debian's, with a cluster of our own ----
postgres_bin() {
    find /usr/lib/postgresql -mindepth 2 -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1
}
start_postgres() {
    local folder="$DIR/postgres" bin
    alive "$folder/data/postmaster.pid" && port_taken "$PG_PORT" && { say "postgres runs"; return; }
    refuse_foreign postgres "$PG_PORT"
    bin="$(postgres_bin)"
    if [ ! -x "$bin/initdb" ]; then
        [ "$(id -u)" = 0 ] || die "PostgreSQL is missing; as root: apt-get install postgresql"
        # Debian would start a cluster of its own on port 5432: it is not wanted.
        mkdir -p /etc/postgresql-common
        [ -e /etc/postgresql-common/createcluster.conf ] ||
            echo "create_main_cluster = false" >/etc/postgresql-common/createcluster.conf
        need no-such-command postgresql
        bin="$(postgres_bin)"
    fi
    make_folder "$folder"
    if [ ! -s "$folder/data/PG_VERSION" ]; then
        unprivileged "$bin/initdb" -D "$folder/data" -U imagingx --auth=trust --encoding=UTF8 \
            --locale=C.UTF-8 >"$DIR/postgres.log" 2>&1 ||
            { tail -n 30 "$DIR/postgres.log" >&2; die "initdb failed"; }
        [ "$HOST" = 127.0.0.1 ] || echo "host all all samenet trust" >>"$folder/data/pg_hba.conf"
    fi
    unprivileged "$bin/pg_ctl" -D "$folder/data" -w -t 60 -l "$folder/log" \
        -o "-p $PG_PORT -c listen_addresses=$HOST -c unix_socket_directories= -c fsync=off" \
        start >>"$DIR/postgres.log" 2>&1 </dev/null ||
        { tail -n 30 "$folder/log" >&2; die "postgres did not start"; }
    "$bin/psql" -h "$HOST" -p "$PG_PORT" -U imagingx -d postgres -qAtc \
        "SELECT 1 FROM pg_database WHERE datname = 'imagingx'" | grep -q 1 ||
        "$bin/createdb" -h "$HOST" -p "$PG_PORT" -U imagingx imagingx
    say "postgres is ready"
}
stop_postgres() { end postgres "$DIR/postgres/data/postmaster.pid" INT; } # not after the last client
env_postgres() {
    echo "export IMAGINGX_TEST_DATABASE_URL=postgres://imagingx@$HOST:$PG_PORT/imagingx"
}

# ---- Redis ----
redis_ping() { redis-cli -h "$HOST" -p "$REDIS_PORT" ping | grep -q PONG; }
start_redis() {
    local folder="$DIR/redis"
    command -v redis-cli >/dev/null 2>&1 && alive "$folder/pid" && redis_ping &&
        { say "redis runs"; return; }
    refuse_foreign redis "$REDIS_PORT"
    need redis-server redis-server
    make_folder "$folder"
    unprivileged redis-server --bind "$HOST" --protected-mode no --port "$REDIS_PORT" --dir "$folder" --daemonize yes \
        --pidfile "$folder/pid" --logfile "$folder/log" --save "" --appendonly no >/dev/null
    await redis 30 "$folder/log" redis_ping
}
stop_redis() { end redis "$DIR/redis/pid"; }
env_redis() { echo "export IMAGINGX_TEST_BROKER_URL=redis://$HOST:$REDIS_PORT/0"; }

# ---- RabbitMQ: Debian's, as a node of our own with its own epmd, cookie and data ----
rabbitmq_run() { # COMMAND...: with the environment of our node
    local folder="$DIR/rabbitmq"
    unprivileged env HOME="$folder" LC_ALL=C.UTF-8 \
        ERL_EPMD_PORT=$((RABBITMQ_PORT + 20001)) ERL_EPMD_ADDRESS=127.0.0.1 \
        RABBITMQ_NODENAME="imagingx-$RABBITMQ_PORT@localhost" \
        RABBITMQ_NODE_IP_ADDRESS="$HOST" RABBITMQ_NODE_PORT="$RABBITMQ_PORT" \
        RABBITMQ_DIST_PORT=$((RABBITMQ_PORT + 20000)) RABBITMQ_PID_FILE="$folder/pid" \
        RABBITMQ_MNESIA_BASE="$folder/data" RABBITMQ_LOG_BASE="$folder/logs" \
        RABBITMQ_CONF_ENV_FILE="$folder/none" RABBITMQ_CONFIG_FILE="$folder/rabbitmq" \
        RABBITMQ_ENABLED_PLUGINS_FILE="$folder/plugins" "$@"
}
rabbitmq_ready() { rabbitmq_run "$RABBITMQ_BIN/rabbitmqctl" -q await_startup --timeout 2; }
RABBITMQ_BIN=/usr/lib/rabbitmq/bin # the commands in the PATH insist on Debian's account
start_rabbitmq() {
    local folder="$DIR/rabbitmq"
    alive "$folder/pid" && port_taken "$RABBITMQ_PORT" && { say "rabbitmq runs"; return; }
    refuse_foreign rabbitmq "$RABBITMQ_PORT"
    if [ ! -x "$RABBITMQ_BIN/rabbitmq-server" ]; then
        [ "$(id -u)" = 0 ] || die "RabbitMQ is missing; as root: apt-get install rabbitmq-server"
        refuse_system_services need no-such-command rabbitmq-server
    fi
    mkdir -p "$folder"
    echo "[]." >"$folder/plugins"
    printf '%s\n' "loopback_users = none" "disk_free_limit.absolute = 50MB" \
        "consumer_timeout = ${IMAGINGX_SERVICES_CONSUMER_TIMEOUT:-1800000}" >"$folder/rabbitmq.conf"
    rm -f "$folder/pid"
    make_folder "$folder"
    rabbitmq_run setsid "$RABBITMQ_BIN/rabbitmq-server" >"$DIR/rabbitmq.log" 2>&1 </dev/null &
    await rabbitmq 120 "$DIR/rabbitmq.log" rabbitmq_ready
}
stop_rabbitmq() {
    end rabbitmq "$DIR/rabbitmq/pid"
    ! command -v epmd >/dev/null || rabbitmq_run epmd -kill >/dev/null 2>&1 || true
}
env_rabbitmq() { echo "export IMAGINGX_TEST_RABBITMQ_URL=amqp://guest:guest@$HOST:$RABBITMQ_PORT//"; }

main() {
    local action="${1:-}"
    case "$action" in
    start | stop | env) shift ;;
    *) sed -n '2,20s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
    esac
    [ $# -gt 0 ] || set -- elasticsearch postgres redis rabbitmq
    local name
    for name in "$@"; do
        case "$name" in
        elasticsearch | postgres | redis | rabbitmq) ;;
        *) die "unknown service '$name', expected elasticsearch, postgres, redis or rabbitmq" ;;
        esac
    done
    mkdir -p "$DIR"
    for name in "$@"; do
        "${action}_$name"
        [ "$action" != start ] || "env_$name"
    done
}

main "$@"
