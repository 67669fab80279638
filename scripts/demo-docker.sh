#!/usr/bin/env bash
# The main job as it is meant: two SQL Servers and a PostgreSQL by docker compose, filled by init-databases.sh, and
# login-analytics run on them twice. `make demo` builds what it needs.
#
#   scripts/demo-docker.sh          the demo; the servers stay, so that you can look around
#   scripts/demo-docker.sh check    only whether it can run here
#   scripts/demo-docker.sh down     removes the servers with all their data
#
# ROWS (logins per shard, when the shards are filled) can be set; the default is 100000. Ends with 2 when a password is
# missing in .env, with 3 when there is no docker compose or no engine that answers.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/dotenv.sh
source scripts/dotenv.sh

heading() { printf '\n== %s\n\n' "$*"; }

fail() {
    local code=$1
    shift
    printf 'demo: %s\n' "$*" >&2
    exit "$code"
}

readonly INSTEAD="'make demo-stand-in' runs the same job without Docker, against stand-ins for SQL Server"

check_docker() {
    command -v docker >/dev/null 2>&1 || fail 3 "Docker is not installed; $INSTEAD"
    docker info >/dev/null 2>&1 || fail 3 "no Docker engine answers; $INSTEAD"
    docker compose version >/dev/null 2>&1 || fail 3 "docker has no compose plugin; $INSTEAD"
}

check_passwords() {
    local variable missing=()
    for variable in MSSQL_SA_PASSWORD SQLSERVER_PASSWORD POSTGRES_PASSWORD; do
        [ -n "$(dotenv $variable)" ] || missing+=("$variable")
    done
    [ ${#missing[@]} -eq 0 ] ||
        fail 2 "not set: ${missing[*]}. Copy .env.template to .env and choose passwords; $INSTEAD"
}

case ${1-} in
'') ;;
check)
    check_docker
    check_passwords
    exit
    ;;
down)
    check_docker
    # Compose wants them even for this.
    MSSQL_SA_PASSWORD=unused POSTGRES_PASSWORD=unused docker compose down --volumes
    exit
    ;;
*)
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "scripts/${BASH_SOURCE[0]##*/}" >&2
    exit 2
    ;;
esac

check_docker
check_passwords

heading 'Two SQL Servers and a PostgreSQL: docker compose up'
docker compose up --detach --wait --wait-timeout 300 ||
    fail 3 "the servers did not start: 'docker compose logs' says why. Each SQL Server needs 2 GB of memory, and a" \
        'password of at least 8 characters of three kinds'

heading 'Logins for both shards: scripts/init-databases.sh'
ready=$(scripts/init-databases.sh) || fail $? 'scripts/init-databases.sh could not fill the shards'
printf '%s\n' "$ready"
expected=$(awk '/^sqlserver-shard/ { sum += $2 } END { print sum }' <<<"$ready")

scripts/demo-sqlserver.sh "$expected"

printf '%s\n' "The servers are still there. 'make demo-down' removes them with all their data."
