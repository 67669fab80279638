#!/usr/bin/env bash
# Makes the databases of the demo ready: waits until both shards and the sink answer, then makes on each shard the
# database `logins`, the table `user_logins` with its rows, and the user that the pipeline reads with. May be run again:
# what is there stays as it is. The sink needs nothing; the host makes its tables by itself.
#
#   scripts/init-databases.sh           with sqlcmd in the containers of docker-compose.yml
#   scripts/init-databases.sh --host    with sqlcmd or tsql of this machine, on SQLSERVER_SHARD<N>_HOST and _PORT
#
# Reads .env (see .env.template). ROWS (logins per shard, 100000) and WAIT (seconds for all servers, 180) can be set.
# Ends with 0 when all is ready, with 2 when a variable is missing, with 3 when a server does not answer or refuses.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/dotenv.sh
source scripts/dotenv.sh

readonly ROWS=${ROWS:-100000}
readonly WAIT=${WAIT:-180}
readonly SHARDS=2

say() { printf '%s\n' "$*"; }

fail() {
    local code=$1
    shift
    printf 'init-databases: %s\n' "$*" >&2
    exit "$code"
}

on_host=false
case ${1-} in
'') ;;
--host) on_host=true ;;
*)
    sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "scripts/${BASH_SOURCE[0]##*/}" >&2
    exit 2
    ;;
esac

SA_PASSWORD=$(dotenv MSSQL_SA_PASSWORD)
READER=$(dotenv SQLSERVER_USER etl_reader)
READER_PASSWORD=$(dotenv SQLSERVER_PASSWORD)
readonly SA_PASSWORD READER READER_PASSWORD

[[ $ROWS =~ ^[1-9][0-9]{0,6}$ ]] || fail 2 "ROWS must be a number from 1 to 9999999, not $ROWS"
[[ $WAIT =~ ^[1-9][0-9]{0,4}$ ]] || fail 2 "WAIT must be a number of seconds, not $WAIT"
for variable in MSSQL_SA_PASSWORD SQLSERVER_PASSWORD POSTGRES_PASSWORD; do
    [ -n "$(dotenv $variable)" ] || fail 2 "$variable is not set: see .env.template"
done
[ ${#READER_PASSWORD} -le 128 ] || fail 2 'SQLSERVER_PASSWORD has more than 128 characters, which SQL Server does not take'

# --- one way to run T-SQL, three clients ----------------------------------------------------------------------
# Each reads its statements from standard input, so that a password in them is on no command line.

# shellcheck disable=SC2016 # for the shell that runs it
readonly SQLCMD='umask 077
script=$(mktemp) && trap "rm -f \"$script\"" EXIT && cat >"$script" &&
SQLCMDPASSWORD=$MSSQL_SA_PASSWORD "$1" -S "$2" -U sa -C -l 10 -b -x -h -1 -W -i "$script"'

# A script in a file: what sqlcmd does with errors in its standard input is not written down.
in_container() {
    docker compose exec -T "sqlserver-shard$1" bash -c "$SQLCMD" bash /opt/mssql-tools18/bin/sqlcmd localhost
}

with_sqlcmd() {
    MSSQL_SA_PASSWORD=$SA_PASSWORD bash -c "$SQLCMD" bash sqlcmd "$(host_of "$1"),$(port_of "$1")"
}

# Without a terminal it reads the password from the first line. It ends with 0 whatever the server says.
with_tsql() {
    local output
    output=$({ printf '%s\n' "$SA_PASSWORD" && cat; } |
        setsid --wait tsql -H "$(host_of "$1")" -p "$(port_of "$1")" -U sa -o qh 2>&1) || {
        printf '%s\n' "$output"
        return 1
    }
    printf '%s\n' "$output"
    ! grep -Eq 'Msg [0-9]+ \(severity (1[1-9]|2[0-9])' <<<"$output"
}

host_of() { dotenv "SQLSERVER_SHARD$1_HOST" localhost; }
port_of() { dotenv "SQLSERVER_SHARD$1_PORT" "$((1432 + $1))"; }

if ! $on_host; then
    docker compose version >/dev/null 2>&1 || fail 3 'docker compose is missing: install it, or give --host'
    client=in_container
elif command -v sqlcmd >/dev/null 2>&1; then
    client=with_sqlcmd
elif command -v tsql >/dev/null 2>&1; then
    client=with_tsql
else
    fail 3 'neither sqlcmd nor tsql is installed: "apt-get install freetds-bin" brings tsql'
fi

# --- waiting --------------------------------------------------------------------------------------------------

deadline=$((SECONDS + WAIT))

# wait_for NAME COMMAND...: until the command succeeds, or time is up.
wait_for() {
    local name=$1 output until=$deadline
    shift
    until output=$("$@" 2>&1 </dev/null); do
        # While it sets itself up, a server refuses its own administrator, but not for long. And waiting starts nothing.
        if [ "$until" -eq "$deadline" ] && [[ $output =~ "Login failed for user"|"is not running" ]]; then
            until=$((SECONDS + 30 < deadline ? SECONDS + 30 : deadline - 1))
        fi
        if [ $SECONDS -ge "$until" ]; then
            printf '%s\n' "$output" | tail -n 5 >&2
            fail 3 "$name does not answer as it should. Is it running? A password belongs to the data: after a change in" \
                ".env either change it in the server too, or start anew with 'make demo-down'"
        fi
        sleep 2
    done
}

shard_answers() { printf 'SELECT 1;\nGO\n' | "$client" "$1"; }

sink_answers() {
    if ! $on_host; then
        docker compose exec -T postgres-sink sh -c \
            'PGPASSWORD=$POSTGRES_PASSWORD psql -X -q -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB" -c "SELECT 1"'
    elif command -v pg_isready >/dev/null 2>&1; then
        pg_isready -h "$(dotenv POSTGRES_HOST localhost)" -p "$(dotenv POSTGRES_PORT 5432)"
    else
        (: <"/dev/tcp/$(dotenv POSTGRES_HOST localhost)/$(dotenv POSTGRES_PORT 5432)")
    fi
}

for ((shard = 1; shard <= SHARDS; shard++)); do
    wait_for "sqlserver-shard$shard" shard_answers "$shard"
done
wait_for 'postgres-sink' sink_answers

# --- the databases --------------------------------------------------------------------------------------------

# An expression of T-SQL for any text, quotes and all.
text() {
    local digits
    digits=$(printf '%s' "$1" | iconv -f UTF-8 -t UTF-16LE | od -An -v -tx1 | tr -d ' \n')
    printf 'CAST(0x%s AS nvarchar(128))' "$digits"
}

# Everything for one shard, as one script.
statements() {
    local shard=$1
    cat <<SQL
EXEC sys.sp_set_session_context N'shard', $shard;
EXEC sys.sp_set_session_context N'rows', $ROWS;
GO
SQL
    cat scripts/sql/1-database.sql scripts/sql/2-logins.sql
    if [ "$READER" != sa ]; then
        cat <<SQL
DECLARE @reader nvarchar(128) = $(text "$READER");
DECLARE @password nvarchar(128) = $(text "$READER_PASSWORD");
EXEC sys.sp_set_session_context N'reader', @reader;
EXEC sys.sp_set_session_context N'reader_password', @password;
GO
SQL
        cat scripts/sql/3-reader.sql
    fi
    cat <<'SQL'
SELECT CONCAT('ready: ', COUNT_BIG(*), ' logins') FROM logins.dbo.user_logins;
GO
SQL
}

for ((shard = 1; shard <= SHARDS; shard++)); do
    # Passwords are in the statements, so the output is shown and the statements never are.
    output=$(statements "$shard" | "$client" "$shard" 2>&1) || {
        printf '%s\n' "$output" | tail -n 10 >&2
        fail 3 "sqlserver-shard$shard refuses a statement, see above"
    }
    count=$(grep -oE 'ready: [0-9]+ logins' <<<"$output") ||
        fail 3 "sqlserver-shard$shard did not come to the end of its statements"
    say "sqlserver-shard$shard: ${count#ready: }, read by $READER"
done
say 'postgres-sink: answers'
