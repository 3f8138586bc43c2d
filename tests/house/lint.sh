#!/bin/sh
# SPDX-License-Identifier: MIT
#
# scripts/lint and scripts/format find nothing.  In a checkout only: a release has no
# git to say which files are sources.

set -eu
# shellcheck disable=SC2154  # from natten-env.sh
cd "$top_srcdir"
test -e .git && command -v git > /dev/null || {
    echo '1..0 # SKIP not a git checkout, or no git'
    exit 0
}
echo 1..2
run() # NUMBER SENTENCE COMMAND...
{
    number=$1 sentence=$2
    shift 2
    if findings=$("$@" 2>&1); then
        echo "ok $number - $sentence"
    else
        printf '%s\n' "$findings" | sed 's/^/# /'
        echo "not ok $number - $sentence"
    fi
}
if command -v python3 > /dev/null; then
    run 1 'the sources keep the rules of the house' scripts/lint
else
    echo 'ok 1 - the sources keep the rules of the house # SKIP python3 not found'
fi
if clang-format --version 2>/dev/null | grep -q 'version 14\.' ||
    command -v clang-format-14 > /dev/null; then
    run 2 'the C sources have the layout of .clang-format' scripts/format --check
else
    echo 'ok 2 - the C sources have the layout of .clang-format # SKIP no version 14'
fi
