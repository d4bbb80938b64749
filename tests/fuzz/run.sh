#!/bin/bash
# Builds the fuzz targets into build/fuzz and runs each for SECONDS, two at a time:
#
#     tests/fuzz/run.sh SECONDS [TARGET]...
#
# One line a target; status 1 when one has found something: the input is then build/fuzz/TARGET-*, which
# `build/fuzz/TARGET FILE` runs again, and the report is in build/fuzz/TARGET.log. What a run finds worth keeping is in
# build/fuzz/corpus, where the next one begins; tests/fuzz/corpus are the seeds (seeds.py).
# Needs clang++ with its sanitizers (Debian: clang, libclang-rt-14-dev).
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:?"usage: $0 SECONDS [TARGET]..."}
shift
targets=${*:-input typed encoder reader options model}
export seconds TMPDIR=$PWD/build/fuzz/tmp
mkdir -p "$TMPDIR"

# Warnings are make lint's; a target uses only a part of what it includes.
build() {
    sources=tests/fuzz/$1.cpp
    case $1 in
    encoder) sources="$sources tests/fuzz/record_side.cpp" ;;
    esac
    # shellcheck disable=SC2086  # a list of files
    "${FUZZ_CXX:-clang++}" -std=c++20 -O1 -g1 -Wno-everything -fsanitize=fuzzer,address,undefined \
        -fno-sanitize-recover=all -o "build/fuzz/$1" $sources -lutil
}

run() {
    most=2048 memory=64 dictionary=terminal seeds=tests/fuzz/corpus/$1
    case $1 in
    input) dictionary=input most=16384 ;;   # over the 8 KiB that an opening may hold back
    encoder) most=4096 ;;
    reader) dictionary=cast memory=16 seeds="$seeds tests/casts" ;;  # a recording of any size takes a few MiB
    options) dictionary=options most=512 ;;
    esac
    found=build/fuzz/corpus/$1 log=build/fuzz/$1.log
    mkdir -p "$found"
    rm -f "build/fuzz/$1"-*
    # shellcheck disable=SC2086  # a list of folders
    if "build/fuzz/$1" -max_total_time="$seconds" -max_len="$most" -timeout=20 -rss_limit_mb=1024 \
        -malloc_limit_mb="$memory" -print_final_stats=1 -dict="tests/fuzz/$dictionary.dict" \
        -artifact_prefix="build/fuzz/$1-" "$found" $seeds >"$log" 2>&1
    then
        printf 'fuzz: %-10s %9d runs, %s\n' "$1" "$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")" \
            "$(sed -n 's/.*DONE *\(cov: [0-9]*\).*/\1/p' "$log")"
        return
    fi
    printf 'fuzz: %-10s FAILED\n' "$1"
    grep -aE '^   got|^wanted|fuzz: wrong|ERROR: |SUMMARY: |runtime error: |    #.*[a-z]\.cpp:[0-9]|Test unit written' \
        "$log" | cut -c 1-300 | head -n 30
    return 1
}
export -f build run

# shellcheck disable=SC2086  # a list of names
one_each() { printf '%s\n' $targets; }
one_each | xargs -P 2 -I TARGET bash -euc 'build TARGET' || exit 1
one_each | xargs -P 2 -I TARGET bash -euc 'run TARGET' || exit 1
