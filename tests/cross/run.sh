#!/bin/sh
# make cross: compiles each source, warnings as errors, for musl on two processors, for macOS on aarch64 (its headers, and
# a stub of one: macos/util.h), with clang 16 and libc++ 16 on glibc, and with the oldest GCC that this Debian has.
#     run.sh ZIG
set -eu
zig=$1
here=$(dirname "$0")
flags='-std=c++20 -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Werror -c'
mkdir -p build/cross
for source in shim attach record; do
    for target in x86_64-linux-musl aarch64-linux-musl aarch64-macos x86_64-linux-gnu; do
        stubs=''
        [ $target != aarch64-macos ] || stubs="-I$here/macos"
        echo "$zig c++ -target $target $flags $stubs -o build/cross/$source-$target.o $source.cpp"
    done
    # GCC 11 takes the size() of an array without values for a use of its values.
    echo "g++-11 $flags -Wno-maybe-uninitialized -o build/cross/$source-g++-11.o $source.cpp"
done | xargs -P2 -I COMMAND sh -c 'COMMAND || { echo "failed: COMMAND"; exit 1; }'
