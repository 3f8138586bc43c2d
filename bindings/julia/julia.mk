# SPDX-License-Identifier: MIT
#
# The Julia package.
