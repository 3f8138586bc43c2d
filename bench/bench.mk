# SPDX-License-Identifier: MIT
#
# The benchmark.
