#!/usr/bin/env bash
# Shows of each pipeline what it does, its memory, its last and next run, and what its log says last.
#
#   monitor-pipelines.sh                       all pipelines
#   monitor-pipelines.sh P...                  these
#   monitor-pipelines.sh [P...] --watch N      again every N seconds, until stopped
#
# Status is Running, Queued, Idle, Failed (idle, and the last run failed), Paused, Stopped, Parked or Broken; see
# docs/operations.md. Memory is the resident memory of the run's workers. Times are local.
#
# Variables, from the environment or .env: ETL_HOST (the program), ETL_PLUGINS_DIR, ETL_STATE_DIR, ETL_CONFIG_DIR,
# ETL_LOG_DIR, ETL_SYSTEMD_DIR (/etc/systemd/system).
# Ends with 0; 2: wrong usage, no such pipeline; 3: not permitted, something is missing.
set -euo pipefail

# Also through a link, as in /usr/local/bin.
HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
readonly HERE

# The comment above.
usage() { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

wrong_usage() {
    printf '%s: %s\n\n' "${0##*/}" "$*" >&2
    usage >&2
    exit 2
}

pipelines=()
watch=
while [ $# -gt 0 ]; do
    case $1 in
    --watch)
        watch=${2-}
        case $watch in
        '' | *[!0-9]* | 0*) wrong_usage "'--watch' needs a number of seconds" ;;
        esac
        shift
        ;;
    -h | --help)
        usage
        exit 0
        ;;
    -*) wrong_usage "there is no option '$1'" ;;
    *) pipelines+=("$1") ;;
    esac
    shift
done

# shellcheck source=scripts/etl-host.sh
source "$HERE/etl-host.sh"

# The next run of a pipeline that a timer starts is known to systemd alone.
with_timers() {
    local line pipeline='' next
    while IFS= read -r line; do
        case $line in
        'Pipeline: '*) pipeline=${line#Pipeline: } ;;
        'Next Run: -')
            if [ -n "$pipeline" ] && has_unit "$pipeline" && has_systemd; then
                # Such as `Mon 2026-11-23 00:00:00 UTC`; empty for a timer that is stopped.
                next=$(systemctl show --property=NextElapseUSecRealtime --value "etl-pipeline-$pipeline.timer" || true)
                case $next in
                ???' '????-??-??' '??:??:??*) line="Next Run: ${next:4:19}" ;;
                esac
            fi
            ;;
        esac
        printf '%s\n' "$line"
    done
}

show() { etl monitor ${pipelines[@]+"${pipelines[@]}"} | with_timers; }

if [ -z "$watch" ]; then
    show
    exit
fi
while true; do
    text=$(show)
    if [ -t 1 ]; then printf '\033[H\033[2J'; fi
    printf '%s\n\n' "$text"
    sleep "$watch"
done
