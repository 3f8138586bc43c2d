# SPDX-License-Identifier: MIT
#
# Tests of the core, in C.
