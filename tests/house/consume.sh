#!/bin/sh
# SPDX-License-Identifier: MIT
#
# A user's build against an installed copy, by pkg-config and by CMake: the library goes
# to a directory made for the test, and a program outside finds, links and runs it.

set -eu
# shellcheck disable=SC2154  # from natten-env.sh
cd "$top_builddir"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
stage=$work/stage

make install-includeHEADERS install-libLTLIBRARIES install-pkgconfigDATA \
    install-nodist_cmakeDATA DESTDIR="$stage" > "$work/log" 2>&1 || {
    sed 's/^/# /' "$work/log"
    echo 'Bail out! make install failed'
    exit 1
}
prefix=$stage$(sed -n 's/^prefix=//p' core/natten.pc)
mkdir "$work/program" "$work/cmake"
cat > "$work/program/main.c" <<'END'
#include <natten.h>
#include <stdio.h>

int main(void)
{
    return puts(natten_version()) < 0;
}
END
cat > "$work/program/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.13)
project(program C)
find_package(natten 0.1 REQUIRED)
add_executable(program main.c)
target_link_libraries(program PRIVATE natten::natten)
END
version=$(sed -n 's/^Version: //p' core/natten.pc)
library=$(find "$stage" -name 'libnatten.*' ! -name '*.la' | head -n 1)
library_folder=$(dirname "$library")
LD_LIBRARY_PATH=$library_folder
export LD_LIBRARY_PATH

echo 1..4
report() # NUMBER SENTENCE, after `run` has written the log
{
    if test "$(cat "$work/out" 2>/dev/null)" = "$version"; then
        echo "ok $1 - $2"
    else
        sed 's/^/# /' "$work/log"
        echo "not ok $1 - $2"
    fi
    rm -f "$work/out"
}

sentence='a program finds natten by pkg-config'
if command -v pkg-config > /dev/null; then
    flags=$(PKG_CONFIG_PATH="$library_folder/pkgconfig" \
        pkg-config --define-variable=prefix="$prefix" --cflags --libs natten)
    # shellcheck disable=SC2086  # lists of flags
    { $CC -o "$work/program/a.out" "$work/program/main.c" $flags &&
        "$work/program/a.out" > "$work/out"; } > "$work/log" 2>&1 || true
    report 1 "$sentence"
else
    echo "ok 1 - $sentence # SKIP pkg-config not found"
fi

sentence='a program finds natten by CMake, in a tree that was moved'
if command -v cmake > /dev/null; then
    { cmake -S "$work/program" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" \
        -DCMAKE_C_COMPILER="${CC%% *}" && cmake --build "$work/cmake" &&
        "$work/cmake/program" > "$work/out"; } > "$work/log" 2>&1 || true
    report 2 "$sentence"
    # A request for an incompatible release must be refused.
    sed 's/natten 0.1/natten 99.0/' "$work/program/CMakeLists.txt" > "$work/new"
    mv "$work/new" "$work/program/CMakeLists.txt"
    if cmake -S "$work/program" -B "$work/cmake2" -DCMAKE_PREFIX_PATH="$prefix" \
        > "$work/log" 2>&1; then
        echo 'not ok 3 - CMake refuses a version that is not there'
    else
        echo 'ok 3 - CMake refuses a version that is not there'
    fi
else
    echo "ok 2 - $sentence # SKIP cmake not found"
    echo 'ok 3 - CMake refuses a version that is not there # SKIP cmake not found'
fi

sentence='the header compiles as C++ and as C99'
if command -v c++ > /dev/null; then
    { $CC -std=c99 -pedantic-errors -Wall -Wextra -Werror -fsyntax-only \
        -I"$prefix/include" "$work/program/main.c" &&
        c++ -x c++ -Wall -Wextra -Werror -fsyntax-only -I"$prefix/include" \
            "$work/program/main.c" && echo "$version" > "$work/out"; } \
        > "$work/log" 2>&1 || true
    report 4 "$sentence"
else
    echo "ok 4 - $sentence # SKIP no C++ compiler"
fi
