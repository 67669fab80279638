# shellcheck shell=bash
# Finds etl-host and its folders, for the other scripts. To be sourced.
#
# The program is $ETL_HOST, else the release build of this project, else what is in PATH. Its folders are those of
# ETL_PLUGINS_DIR, ETL_STATE_DIR, ETL_CONFIG_DIR and ETL_LOG_DIR, from the environment or from .env in the working
# directory; those that are not named are etl-host's own defaults.

# shellcheck source=scripts/dotenv.sh
source "$(dirname "${BASH_SOURCE[0]}")/dotenv.sh"

fail() {
    local code=$1
    shift
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit "$code"
}

has() { command -v "$1" >/dev/null 2>&1; }

# Where install-service.sh has put it, this tells of the service: where it works, and as whom.
service_user=
if [ -f "$(dirname "${BASH_SOURCE[0]}")/service.sh" ]; then
    # shellcheck source=scripts/systemd/service.sh disable=SC1091
    source "$(dirname "${BASH_SOURCE[0]}")/service.sh"
fi

find_host() {
    local project host
    host=$(dotenv ETL_HOST)
    if [ -z "$host" ]; then
        project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
        host=${CARGO_TARGET_DIR:-$project/target}/release/etl-host
        [ -x "$host" ] || host=$(command -v etl-host || true)
    fi
    [ -n "$host" ] || fail 3 "there is no etl-host: 'make build' builds it, or name the program in ETL_HOST"
    [ -x "$host" ] || fail 3 "$host is no program; name etl-host in ETL_HOST"
    # A service starts it by its absolute path.
    case $host in
    /*) ;;
    *) host=$PWD/$host ;;
    esac
    printf '%s' "$host"
}

host=$(find_host)
folders=()
for pair in plugins-dir=ETL_PLUGINS_DIR state-dir=ETL_STATE_DIR config-dir=ETL_CONFIG_DIR log-dir=ETL_LOG_DIR; do
    folder=$(dotenv "${pair#*=}")
    if [ -n "$folder" ]; then folders+=("--${pair%%=*}" "$folder"); fi
done
unset pair folder

# Runs etl-host with the folders; for root as the service's user, so that nothing of the service's is root's.
etl() {
    local as=()
    if [ -n "$service_user" ] && [ "$(id -u)" -eq 0 ]; then as=(runuser -u "$service_user" --); fi
    ${as[@]+"${as[@]}"} "$host" ${folders[@]+"${folders[@]}"} "$@"
}

# Where the units of timers are.
units=$(dotenv ETL_SYSTEMD_DIR /etc/systemd/system)

# Whether systemd is what started this machine.
has_systemd() { [ -d /run/systemd/system ] && has systemctl; }

# has_unit PIPELINE: whether a timer of systemd starts it.
has_unit() { [ -e "$units/etl-pipeline-$1.timer" ]; }
