# SPDX-License-Identifier: MIT
#
# The Python package, staged in stage/python/natten.
