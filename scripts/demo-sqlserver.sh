#!/usr/bin/env bash
# What both demos with SQL Server do once their servers are there: drops the plugin into the plugins folder, checks that
# everything can be reached, runs login-analytics from two shards into PostgreSQL, shows what arrived, and runs it again
# to show that nothing is read twice. demo-docker.sh and demo-stand-in.sh call it.
#
#   scripts/demo-sqlserver.sh LOGINS    how many logins the shards hold together
#
# The servers are those of .env and of the environment, see .env.template.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/dotenv.sh
source scripts/dotenv.sh

readonly EXPECTED=${1:?usage: scripts/demo-sqlserver.sh LOGINS}
readonly CONFIGURATION=examples/sqlserver
readonly PLUGINS=${ETL_PLUGINS_DIR:-plugins}
readonly BUILT=${CARGO_TARGET_DIR:-target}/release
readonly LIBRARY=liblogin_analytics.so

heading() { printf '\n== %s\n\n' "$*"; }

fail() {
    local code=$1
    shift
    printf 'demo: %s\n' "$*" >&2
    exit "$code"
}

for file in "$BUILT/etl-host" "$BUILT/login-analytics-demo" "$BUILT/$LIBRARY"; do
    [ -e "$file" ] || fail 3 "$file is missing: 'make build' makes it"
done

etl_host() { "$BUILT/etl-host" --config-dir "$CONFIGURATION" "$@" || fail $? "etl-host $1 ended with exit code $?"; }

# Unlike the host, this program does not read .env.
report() {
    POSTGRES_HOST=$(dotenv POSTGRES_HOST) POSTGRES_PORT=$(dotenv POSTGRES_PORT) POSTGRES_DB=$(dotenv POSTGRES_DB) \
        POSTGRES_USER=$(dotenv POSTGRES_USER) POSTGRES_PASSWORD=$(dotenv POSTGRES_PASSWORD) \
        "$BUILT/login-analytics-demo" report --postgres --expect "$EXPECTED" "$@"
}

heading "Dropping the plugin into $PLUGINS/"
mkdir -p "$PLUGINS"
# Under its name only when complete: a host that watches the folder must never see half a library.
cp "$BUILT/$LIBRARY" "$PLUGINS/.$LIBRARY.new"
mv -f "$PLUGINS/.$LIBRARY.new" "$PLUGINS/$LIBRARY"
etl_host list

heading 'Can everything be reached? etl-host doctor login-analytics'
etl_host doctor login-analytics

heading 'First run: etl-host run login-analytics'
etl_host run login-analytics

heading 'What is in PostgreSQL'
report

heading 'Second run: nothing is new'
etl_host run login-analytics
report --brief

heading "Done: $EXPECTED rows, each exactly once, 0 new rows in the second run"
