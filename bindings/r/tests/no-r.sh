#!/bin/sh
# SPDX-License-Identifier: MIT
#
# Stands in for testthat.R where configure left R out, so that the summary says so.

echo '1..0 # SKIP no R; the end of the output of configure says why'
