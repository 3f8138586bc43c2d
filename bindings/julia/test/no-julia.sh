#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Stands in for tap.jl where configure left Julia out, so that the summary says so.

echo '1..0 # SKIP no Julia; the end of the output of configure says why'
