# SPDX-License-Identifier: MIT
#
# The R package, staged in stage/r/natten.
