#!/usr/bin/env bash
# Manages pipelines, each by a daemon (etl-host serve) or by a timer of systemd.
#
#   manage-pipeline.sh list                             all pipelines
#   manage-pipeline.sh info P                           all about one
#   manage-pipeline.sh start P                          let it run, and run it now
#   manage-pipeline.sh stop P                           stop it, and let it run no more
#   manage-pipeline.sh delete P [--yes]                 to the trash: library, configuration, schedule, logs; loaded data stay
#   manage-pipeline.sh schedule P                       show its schedule
#   manage-pipeline.sh schedule P daily 00:00           once a day
#   manage-pipeline.sh schedule P hourly 2              every 2 hours
#   manage-pipeline.sh schedule P weekly mon 00:00      once a week
#   manage-pipeline.sh schedule P monthly 1 00:00       once a month
#   manage-pipeline.sh schedule P cron "0 8 * * mon"    by a cron pattern
#   manage-pipeline.sh schedule P pause|resume|remove   no runs for now; runs again; back to the configuration's schedule
#
# If a daemon runs, `schedule` sets its schedule. If none does, it writes etl-pipeline-P.service and .timer, and a daemon
# that is started later leaves the pipeline to them. It is never both. --timezone, --jitter, --catch-up: see
# `etl-host schedule --help`.
#
# Variables, from the environment or .env: ETL_HOST (the program), ETL_PLUGINS_DIR, ETL_STATE_DIR, ETL_CONFIG_DIR,
# ETL_LOG_DIR, ETL_SYSTEMD_DIR (/etc/systemd/system), ETL_SERVICE_USER (etl, the user whom timers run as).
# Ends with 0; 1: a run failed; 2: wrong usage, no such pipeline; 3: not permitted, something is missing.
set -euo pipefail

# Also through a link, as in /usr/local/bin.
HERE=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
readonly HERE

# The comment above.
usage() { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

wrong_usage() {
    [ $# -eq 0 ] || printf '%s: %s\n\n' "${0##*/}" "$*" >&2
    usage >&2
    exit 2
}

case ${1-} in
list | info | start | stop | delete | schedule) ;;
-h | --help | help)
    usage
    exit 0
    ;;
'') wrong_usage ;;
*) wrong_usage "there is no command '$1'" ;;
esac
command=$1
shift
if [ "$command" = list ]; then
    [ $# -eq 0 ] || wrong_usage "'list' takes no arguments"
else
    pipeline=${1-}
    [ -n "$pipeline" ] || wrong_usage "'$command' needs a pipeline; 'list' shows them"
    shift
    # It becomes part of the names of files.
    case $pipeline in
    -*) wrong_usage "'$command' needs a pipeline before '$pipeline'" ;;
    */* | .*) wrong_usage "'$pipeline' is no name of a pipeline; 'list' shows them" ;;
    esac
fi

# shellcheck source=scripts/etl-host.sh
source "$HERE/etl-host.sh"

say() { printf '%s\n' "$*"; }

has_daemon() {
    local status
    # Without a daemon the field is null.
    status=$(etl --output json status) || fail $? "cannot ask for the state: $status"
    case $status in
    *'"daemon":null'*) return 1 ;;
    *) return 0 ;;
    esac
}

# --- units ---------------------------------------------------------------------------------------------------------

# systemctl, or what to type where systemd does not run.
tell_systemd() {
    if has_systemd && [ "$units" = /etc/systemd/system ]; then
        systemctl "$@" || fail 3 "'systemctl $*' failed; see 'journalctl -u etl-pipeline-$pipeline'"
    else
        say "systemd does not look at $units on this machine; where it does, type: systemctl $*"
    fi
}

require_units_dir() {
    [ -d "$units" ] || fail 3 "there is no folder $units; name that of systemd's units in ETL_SYSTEMD_DIR, or start a daemon: etl-host serve"
    [ -w "$units" ] || fail 3 "you may not write to $units: run this as root, as with sudo, or start a daemon: etl-host serve"
}

# A value in a unit: in quotes, with what systemd would expand taken as it is.
quoted() {
    local value=$1
    value=${value//\\/\\\\}
    value=${value//\"/\\\"}
    value=${value//%/%%}
    printf '"%s"' "$value"
}

absolute() {
    case $1 in
    /*) printf '%s' "$1" ;;
    *) printf '%s' "$PWD/$1" ;;
    esac
}

# fill TEMPLATE NAME=VALUE...: the template with each @NAME@ replaced.
fill() {
    local text pair value
    text=$(cat "$1")
    shift
    for pair in "$@"; do
        value=${pair#*=}
        # In quotes, or & would stand for the name itself.
        text=${text//"@${pair%%=*}@"/"$value"}
    done
    printf '%s\n' "$text"
}

service_text() {
    local user=$1 command writable folder option
    # systemd expands $ in a command.
    command=$(quoted "${host//\$/\$\$}")
    # Where it works, and where .env is.
    writable="ReadWritePaths=$(quoted "$PWD")"
    set -- ${folders[@]+"${folders[@]}"}
    while [ $# -gt 0 ]; do
        option=$1 folder=$(absolute "$2")
        shift 2
        command+=" $option $(quoted "${folder//\$/\$\$}")"
        case $option in
        --state-dir | --log-dir) writable+=$'\n'"ReadWritePaths=$(quoted "$folder")" ;;
        esac
    done
    fill "$HERE/systemd/etl-pipeline.service.in" "PIPELINE=$pipeline" "USER=$user" \
        "WORKING_DIR=${PWD//%/%%}" "COMMAND=$command run $pipeline" "WRITABLE=$writable"
}

# Under its name only when complete.
write_unit() {
    local path=$1 text=$2
    printf '%s\n' "$text" >"$path.new"
    chmod 0644 "$path.new"
    mv -f "$path.new" "$path"
}

# The user whom the pipeline runs as.
service_account() {
    local user
    user=$(dotenv ETL_SERVICE_USER etl)
    getent passwd "$user" >/dev/null ||
        fail 3 "there is no user '$user' to run the pipeline as: scripts/install-service.sh makes it, or name another one in ETL_SERVICE_USER"
    printf '%s' "$user"
}

write_units() {
    local when=$1 form=$2 user=$3 unit=$units/etl-pipeline-$pipeline
    write_unit "$unit.service" "$(service_text "$user")"
    write_unit "$unit.timer" "$(fill "$HERE/systemd/etl-pipeline.timer.in" \
        "PIPELINE=$pipeline" "FORM=$form" "WHEN=$when")"
}

remove_units() {
    local unit=etl-pipeline-$pipeline
    has_unit "$pipeline" || [ -e "$units/$unit.service" ] || return 0
    require_units_dir
    tell_systemd disable --now "$unit.timer"
    rm -f "$units/$unit.timer" "$units/$unit.service"
    tell_systemd daemon-reload
    say "removed $units/$unit.timer and .service"
}

# --- commands ------------------------------------------------------------------------------------------------------

schedule() {
    local change=${1-} when user
    case $change in
    '' | -*)
        etl schedule "$pipeline" "$@"
        if has_unit "$pipeline"; then sed -n '/^OnCalendar=/s//  timer       /p' "$units/etl-pipeline-$pipeline.timer"; fi
        ;;
    pause | resume)
        etl schedule "$pipeline" "$@"
        if has_unit "$pipeline"; then
            require_units_dir
            case $change in
            pause) tell_systemd disable --now "etl-pipeline-$pipeline.timer" ;;
            resume) tell_systemd enable --now "etl-pipeline-$pipeline.timer" ;;
            esac
        fi
        ;;
    remove | off | external)
        etl schedule "$pipeline" >/dev/null
        # The units go first: a daemon must not start what a timer starts too.
        remove_units
        etl schedule "$pipeline" "$@"
        ;;
    *)
        if has_daemon; then
            etl schedule "$pipeline" "$@" --preview 1 >/dev/null
            remove_units
            etl schedule "$pipeline" "$@"
            return
        fi
        # Checks pipeline and form, before anything is changed.
        when=$(etl schedule "$pipeline" "$@" --timer)
        require_units_dir
        user=$(service_account)
        # Before there is a timer, or a daemon that starts now would follow its own schedule too.
        etl schedule "$pipeline" external >/dev/null
        write_units "$when" "$*" "$user"
        say "wrote $units/etl-pipeline-$pipeline.service and .timer"
        tell_systemd daemon-reload
        tell_systemd enable --now "etl-pipeline-$pipeline.timer"
        ;;
    esac
}

start() {
    if ! has_unit "$pipeline"; then
        etl start "$pipeline" "$@"
        return
    fi
    etl start "$pipeline" --no-run "$@"
    tell_systemd enable --now "etl-pipeline-$pipeline.timer"
    tell_systemd start --no-block "etl-pipeline-$pipeline.service"
}

stop() {
    if has_unit "$pipeline"; then
        tell_systemd disable --now "etl-pipeline-$pipeline.timer"
        tell_systemd stop "etl-pipeline-$pipeline.service"
    fi
    etl stop "$pipeline" "$@"
}

delete() {
    # Before a library goes away of which a timer remains.
    if has_unit "$pipeline"; then require_units_dir; fi
    etl delete "$pipeline" "$@"
    remove_units
}

case $command in
list) etl list ;;
info)
    etl info "$pipeline" "$@"
    if has_unit "$pipeline" && has_systemd; then systemctl --no-pager list-timers "etl-pipeline-$pipeline.timer"; fi
    ;;
*) "$command" "$@" ;;
esac
