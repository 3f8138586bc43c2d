#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Each example runs and finds its own result right.

set -u
count=0
for name in forward smoothing stream; do
    count=$((count + 1))
    # shellcheck disable=SC2154  # from natten-env.sh
    if output=$("$top_builddir/examples/$name" 2>&1); then
        echo "ok $count - $output" | head -n 1
    else
        echo "not ok $count - $name: $output"
    fi
done
echo "1..$count"
