#!/usr/bin/env bash
# The job of `make demo` where there is no Docker: login-analytics from two servers that stand in for SQL Server (they
# are part of the test kit, speak its protocol over TLS and know the few statements that tests need) into a PostgreSQL
# of its own. All of them are started here and are gone at the end. `make demo-stand-in` builds what it needs.
#
# ROWS (logins per shard) can be set; the default is 250000.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ROWS=${ROWS:-250000}
readonly SHARDS=2
readonly PATIENCE=120
readonly BUILT=${CARGO_TARGET_DIR:-target}/release

heading() { printf '\n== %s\n\n' "$*"; }

fail() {
    printf 'demo-stand-in: %s\n' "$*" >&2
    exit 3
}

[ -x "$BUILT/etl-testkit" ] || fail "$BUILT/etl-testkit is missing: 'make demo-stand-in' builds it"

# Itself again, with a PostgreSQL. Never with the server of somebody who has one for tests.
if [ "${1-}" != --with-postgres ]; then
    heading 'A PostgreSQL of its own'
    exec env -u ETL_TEST_POSTGRES_URL "$BUILT/etl-testkit" postgres -- "scripts/${BASH_SOURCE[0]##*/}" --with-postgres
fi

# postgres://USER:PASSWORD@HOST:PORT/DATABASE
[[ ${ETL_TEST_POSTGRES_URL-} =~ ^postgres://([^:@]*):([^@]*)@([^:/]*):([0-9]+)/(.*)$ ]] ||
    fail 'ETL_TEST_POSTGRES_URL is not as expected: start this script without arguments'
decoded() { printf '%b' "${1//%/\\x}"; }
POSTGRES_USER=$(decoded "${BASH_REMATCH[1]}")
POSTGRES_PASSWORD=$(decoded "${BASH_REMATCH[2]}")
POSTGRES_HOST=${BASH_REMATCH[3]}
POSTGRES_PORT=${BASH_REMATCH[4]}
POSTGRES_DB=$(decoded "${BASH_REMATCH[5]}")
export POSTGRES_USER POSTGRES_PASSWORD POSTGRES_HOST POSTGRES_PORT POSTGRES_DB
printf 'listens on %s:%s\n' "$POSTGRES_HOST" "$POSTGRES_PORT"

heading "Two stand-ins for SQL Server, $ROWS logins each"
folder=$(mktemp -d)
servers=()
finish() {
    for server in "${servers[@]}"; do kill "$server" 2>/dev/null || true; done
    wait
    rm -rf "$folder"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

ETL_STAND_IN_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
export ETL_STAND_IN_PASSWORD
export SQLSERVER_USER=sa SQLSERVER_PASSWORD=$ETL_STAND_IN_PASSWORD

# A stand-in ends when its standard input does. This one ends with the script, whatever ends it.
mkfifo "$folder/input"
exec {input}<>"$folder/input"

# Nobody listens there now. Each shard has a range of its own, so that two never choose the same.
free_port() {
    local port
    while port=$((20000 + $1 * 5000 + RANDOM % 5000)) && (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
    printf '%s' "$port"
}

for ((shard = 1; shard <= SHARDS; shard++)); do
    port=$(free_port "$shard")
    mkdir "$folder/tls-$shard"
    # Without the writing end of its own input, or that would never end.
    "$BUILT/etl-testkit" stand-in --port "$port" --name "stand-in-$shard" --database logins --logins "$ROWS" \
        --tls-dir "$folder/tls-$shard" <"$folder/input" {input}>&- >"$folder/ready-$shard" &
    servers+=($!)
    export "SQLSERVER_SHARD${shard}_HOST=127.0.0.1" "SQLSERVER_SHARD${shard}_PORT=$port"
done

for ((shard = 1; shard <= SHARDS; shard++)); do
    deadline=$((SECONDS + PATIENCE))
    # It says one line when it is ready.
    until [ "$(wc -l <"$folder/ready-$shard")" -gt 0 ]; do
        kill -0 "${servers[shard - 1]}" 2>/dev/null || fail "stand-in $shard ended before it was ready"
        [ $SECONDS -lt $deadline ] || fail "stand-in $shard is not ready after $PATIENCE s"
        sleep 0.2
    done
    head -n 1 "$folder/ready-$shard"
done

scripts/demo-sqlserver.sh $((ROWS * SHARDS)) || exit $?

printf '%s\n' 'The servers of this demo go now, with all their data.'
