#!/usr/bin/env bash
# etl-host on the installed service: in its folders, and for root as its user. What stands behind it is for etl-host.
#
#   etl-service list
#   etl-service run login-analytics --dry-run
set -euo pipefail

# Also through a link, as in /usr/local/bin.
# shellcheck source=scripts/etl-host.sh
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/etl-host.sh"

etl "$@"
