#!/usr/bin/env bash
# Builds the fuzz targets of host/fuzz and runs them at the same time, each for FUZZ_SECONDS (600 unless told), and says
# of each how long it ran, how many inputs it tried, and how many crashes there were. Ends with 1 if there was one.
#
#   scripts/fuzz.sh [TARGET...]    all targets, or only these
#
# What the fuzzer learns lies in target/fuzz/corpus and helps the next run; host/fuzz/seeds has what every run starts
# from. An input that crashes lies in target/fuzz/crashes, and the next run begins with it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly CARGO=${CARGO:-cargo}
readonly SECONDS_EACH=${FUZZ_SECONDS:-600}
readonly INTO=target/fuzz
# An input that takes longer, or makes the program larger, is a crash too.
readonly SLOWEST_SECONDS=30 MOST_MIB=2048 LONGEST_BYTES=16384

if [[ ! $SECONDS_EACH =~ ^[1-9][0-9]*$ ]]; then
    printf 'FUZZ_SECONDS is a number of seconds, not %q\n' "$SECONDS_EACH" >&2
    exit 2
fi
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
    mapfile -t targets < <("$CARGO" fuzz list --fuzz-dir host/fuzz)
fi

# Without a sanitizer it needs no nightly compiler; none of this code is unsafe.
"$CARGO" fuzz build --fuzz-dir host/fuzz --sanitizer none --target-dir "$INTO"
built=$INTO/$(rustc -vV | sed -n 's/^host: //p')/release

running=()
trap 'kill "${running[@]}" 2>/dev/null || true' EXIT
for target in "${targets[@]}"; do
    corpus=$INTO/corpus/$target crashes=$INTO/crashes/$target seeds=host/fuzz/seeds/$target
    mkdir -p "$corpus" "$crashes"
    find "$crashes" -type f -exec mv -t "$corpus" {} +
    inputs=("$corpus")
    if [ -d "$seeds" ]; then inputs+=("$seeds"); fi
    "$built/$target" -max_total_time="$SECONDS_EACH" -timeout="$SLOWEST_SECONDS" -rss_limit_mb="$MOST_MIB" \
        -max_len="$LONGEST_BYTES" -print_final_stats=1 -artifact_prefix="$crashes/" "${inputs[@]}" \
        >"$INTO/$target.log" 2>&1 </dev/null &
    running+=($!)
done

failed=false
printf '%-12s %9s %12s %9s\n' target seconds executions crashes
for index in "${!targets[@]}"; do
    target=${targets[$index]} log=$INTO/${targets[$index]}.log
    ended=0
    wait "${running[$index]}" || ended=$?
    seconds=$(sed -n 's/^Done [0-9]* runs in \([0-9]*\) second.*/\1/p' "$log")
    executions=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    crashes=("$INTO/crashes/$target"/*)
    [ -e "${crashes[0]}" ] || crashes=()
    printf '%-12s %9s %12s %9s\n' "$target" "${seconds:--}" "${executions:--}" "${#crashes[@]}"
    if [ "$ended" -ne 0 ] || [ ${#crashes[@]} -gt 0 ]; then
        failed=true
        {
            grep -hE -m 5 -A 3 'panicked at|ERROR: libFuzzer|^error' "$log" || tail -n 15 "$log"
            for crash in "${crashes[@]}"; do printf 'run it again: %s %s\n' "$built/$target" "$crash"; done
        } >&2
    fi
done
running=()
if $failed; then exit 1; fi
