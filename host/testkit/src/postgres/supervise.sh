#!/bin/sh
# Keeps one private PostgreSQL server for as long as the process at the other end of standard input lives.
# That end is closed by the kernel whatever ends the process, SIGKILL included; then the server is stopped and
# its directory is removed. Nothing but a pipe is relied upon: no thread, no signal, no process id.
#
# Arguments: directory of the server programs, directory to own, name of the superuser.
# Reads one verb per line (init | start PORT | stop), answers each with one line: ok | failed.
set -u

bin=$1
dir=$2
user=$3
data=$dir/data
log=$dir/server.log

# A keystroke that interrupts the tests must not take the supervisor before the server.
trap '' HUP INT TERM PIPE

if [ "$(id -u)" -eq 0 ]; then
    # The server refuses to run as root.
    owner=postgres
    id -u "$owner" >/dev/null 2>&1 || owner=nobody
    uid=$(id -u "$owner")
    gid=$(id -g "$owner")
    as_owner() { setpriv --reuid="$uid" --regid="$gid" --clear-groups -- "$@"; }
    own() { chown -R "$uid:$gid" "$dir"; }
else
    as_owner() { "$@"; }
    own() { :; }
fi

init() {
    own &&
        as_owner "$bin/initdb" -N -D "$data" -U "$user" -E UTF8 --locale=C \
            --auth=scram-sha-256 --pwfile="$dir/password" &&
        cat "$dir/postgresql.conf" >>"$data/postgresql.conf" &&
        cat "$dir/pg_hba.conf" >"$data/pg_hba.conf"
}

start() {
    if [ -f "$dir/preload.so" ]; then
        set -- "$1" env "LD_PRELOAD=$dir/preload.so" "ETL_TEST_FULL_DISK=$dir/disk-is-full"
    fi
    port=$1
    shift
    as_owner "$@" "$bin/pg_ctl" -D "$data" -l "$log" -t 60 -w -o "-p $port" start
}

stop() { as_owner "$bin/pg_ctl" -D "$data" -m immediate -w stop; }

while read -r verb argument; do
    case $verb in
    init) init ;;
    start) start "$argument" ;;
    stop) stop ;;
    *) false ;;
    esac >>"$dir/supervisor.log" 2>&1 </dev/null && answer=ok || answer=failed
    echo "$answer"
done

if [ -f "$data/postmaster.pid" ]; then
    stop >>"$dir/supervisor.log" 2>&1 </dev/null
fi
rm -rf "$dir"
