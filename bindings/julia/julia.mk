# SPDX-License-Identifier: MIT
#
# The Julia package, used from the source tree, as Julia packages are.
