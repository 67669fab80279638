# shellcheck shell=bash
# Where the service works, and as whom. install-service.sh puts it beside the installed scripts, which source it; the
# scripts of a checkout work where they are called.

cd "${ETL_SERVICE_DIR:-/var/lib/etl-host}" || fail 3 "this works on the service: run it as root or as the user etl, as with sudo"
# shellcheck disable=SC2034 # etl-host.sh uses it.
service_user=etl
ETL_HOST=${ETL_HOST:-/usr/local/bin/etl-host}
ETL_PLUGINS_DIR=${ETL_PLUGINS_DIR:-/var/lib/etl-host/plugins}
ETL_STATE_DIR=${ETL_STATE_DIR:-/var/lib/etl-host/state}
ETL_CONFIG_DIR=${ETL_CONFIG_DIR:-/etc/etl-host}
ETL_LOG_DIR=${ETL_LOG_DIR:-/var/log/etl-pipelines}
