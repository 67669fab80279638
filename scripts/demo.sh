#!/usr/bin/env bash
# The main job on real-looking data: makes two SQLite shards, drops the plugin into the plugins folder, runs it,
# shows what arrived, and runs it again to show that nothing is read twice. `make run` builds what it needs.
#
# ROWS (per shard) can be set; the default is 250000. Everything it writes is in data/ and plugins/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly ROWS=${ROWS:-250000}
readonly SHARDS=2
readonly DATA=data
readonly WAREHOUSE=$DATA/warehouse.db
readonly PLUGINS=${ETL_PLUGINS_DIR:-plugins}
readonly BUILT=${CARGO_TARGET_DIR:-target}/release
readonly LIBRARY=liblogin_analytics.so

heading() { printf '\n== %s\n\n' "$*"; }

fail() {
    printf 'demo: %s\n' "$*" >&2
    exit 1
}

for file in "$BUILT/etl-host" "$BUILT/login-analytics-demo" "$BUILT/$LIBRARY"; do
    [ -e "$file" ] || fail "$file is missing: 'make build' makes it"
done

heading "Two shards of $ROWS logins each"
# From the start, so that the first run has everything to do and the second nothing.
mkdir -p "$DATA"
rm -f "$DATA"/shard-*.db* "$WAREHOUSE"*
"$BUILT/login-analytics-demo" --dir "$DATA" --rows "$ROWS" --shards "$SHARDS"

heading "Dropping the plugin into $PLUGINS/"
mkdir -p "$PLUGINS"
# Under its name only when complete: a host that watches the folder must never see half a library.
cp "$BUILT/$LIBRARY" "$PLUGINS/.$LIBRARY.new"
mv -f "$PLUGINS/.$LIBRARY.new" "$PLUGINS/$LIBRARY"
"$BUILT/etl-host" list

# The exit code says that a run did its work; the count in the sink says that it did it exactly once.
readonly EXPECTED=$((ROWS * SHARDS))

heading "First run: etl-host run login-analytics"
"$BUILT/etl-host" run login-analytics || fail "the first run ended with exit code $?"

heading "What is in $WAREHOUSE"
"$BUILT/login-analytics-demo" report --db "$WAREHOUSE" --expect "$EXPECTED"

heading "Second run: nothing is new"
"$BUILT/etl-host" run login-analytics || fail "the second run ended with exit code $?"
"$BUILT/login-analytics-demo" report --db "$WAREHOUSE" --expect "$EXPECTED" --brief

heading "Done: $EXPECTED rows, each exactly once, 0 new rows in the second run"
