# SPDX-License-Identifier: MIT
#
# Short programs, compiled and run by make check.
