# SPDX-License-Identifier: MIT
#
# The benchmark, natten-bench: built on demand, not by make all.
