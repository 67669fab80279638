# shellcheck shell=bash
# Looks variables up as etl-host and docker compose do: the environment first, then .env in the working directory. To be
# sourced. The file is read, not run, and what it holds is not exported.

# dotenv NAME [DEFAULT]: prints the value; the default if it is not set or empty.
dotenv() {
    local name=$1 default=${2-} line value=
    if [ -n "${!name+set}" ]; then
        value=${!name}
    elif [ -f .env ]; then
        # The first of two lines with one name counts.
        line=$(grep -m 1 -E "^[[:space:]]*(export[[:space:]]+)?${name}[[:space:]]*=" .env || true)
        value=${line#*=}
        value=${value%$'\r'}
        value=${value#"${value%%[![:space:]]*}"}
        case $value in
        \'*) value=${value#\'} value=${value%%\'*} ;;
        \"*) value=${value#\"} value=${value%%\"*} ;;
        *)
            value=${value%%[[:space:]]#*}
            value=${value%"${value##*[![:space:]]}"}
            ;;
        esac
    fi
    printf '%s' "${value:-$default}"
}
