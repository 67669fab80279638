#!/usr/bin/env bash
# Installs etl-host as a service of systemd: the user etl, the folders, the program, the scripts, the unit, logrotate.
#
#   install-service.sh                 install; as root. What is there is brought up to date, settings are left alone
#   install-service.sh --root DIR      into a folder instead, to look at or to pack: no user is made, nothing is started
#
# The program is $ETL_HOST, else the release build of this project. Nothing is started: docs/operations.md says how.
# Ends with 0; 2: wrong usage; 3: not permitted, something is missing.
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
readonly HERE

# The comment above.
usage() { sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

root=
case ${1-} in
'') ;;
--root)
    root=${2-}
    if [ -z "$root" ] || [ $# -ne 2 ]; then
        usage >&2
        exit 2
    fi
    ;;
-h | --help)
    usage
    exit 0
    ;;
*)
    usage >&2
    exit 2
    ;;
esac

# shellcheck source=scripts/etl-host.sh
source "$HERE/etl-host.sh"

[ -n "$root" ] || [ "$(id -u)" -eq 0 ] || fail 3 "run this as root, as with sudo, or look at it first with --root DIR"

owner=(-o root -g root)
etl=(-o etl -g etl)
if [ -n "$root" ]; then
    owner=() etl=()
elif ! getent passwd etl >/dev/null; then
    useradd --system --user-group --home-dir /var/lib/etl-host --no-create-home --shell /usr/sbin/nologin etl ||
        fail 3 "the user etl could not be made"
fi

# As install(1), with the owner if there is one to set.
put() { install ${owner[@]+"${owner[@]}"} "$@"; }
put_for_etl() { install ${etl[@]+"${etl[@]}"} "$@"; }

put_for_etl -d -m 0750 "$root/var/lib/etl-host" "$root/var/lib/etl-host/plugins" "$root/var/lib/etl-host/state"
put_for_etl -d -m 0750 "$root/var/log/etl-pipelines" "$root/etc/etl-host"

put -d -m 0755 "$root/usr/local/bin" "$root/usr/local/lib/etl-host/systemd" "$root/etc/systemd/system" "$root/etc/logrotate.d"
# Under its name only when complete: a daemon may be running the old one.
put -m 0755 "$host" "$root/usr/local/bin/.etl-host.new"
mv -f "$root/usr/local/bin/.etl-host.new" "$root/usr/local/bin/etl-host"

put -m 0644 "$HERE/etl-host.sh" "$HERE/dotenv.sh" "$HERE/systemd/service.sh" "$root/usr/local/lib/etl-host/"
put -m 0644 "$HERE"/systemd/etl-pipeline.* "$root/usr/local/lib/etl-host/systemd/"
for script in manage-pipeline monitor-pipelines etl-service; do
    put -m 0755 "$HERE/$script.sh" "$root/usr/local/lib/etl-host/"
    ln -sfn "../lib/etl-host/$script.sh" "$root/usr/local/bin/$script"
done

put -m 0644 "$HERE/systemd/etl-host.service" "$root/etc/systemd/system/"
put -m 0644 "$HERE/logrotate/etl-pipelines" "$root/etc/logrotate.d/"

# logrotate does it.
if [ ! -e "$root/etc/etl-host/etl-host.yaml" ]; then
    printf 'logs: { rotate: false }\n' >"$root/etc/etl-host/etl-host.yaml"
    chmod 0640 "$root/etc/etl-host/etl-host.yaml"
    [ -n "$root" ] || chown root:etl "$root/etc/etl-host/etl-host.yaml"
fi
if [ ! -e "$root/var/lib/etl-host/.env" ]; then
    put_for_etl -m 0600 /dev/null "$root/var/lib/etl-host/.env"
fi

[ -z "$root" ] || exit 0
if has_systemd; then systemctl daemon-reload; fi
cat <<'END'
Installed. What is left to do:
  passwords        /var/lib/etl-host/.env
  plugins          /var/lib/etl-host/plugins
  configurations   /etc/etl-host/PIPELINE.yaml; of the daemon: /etc/etl-host/etl-host.yaml
  start            systemctl enable --now etl-host
END
