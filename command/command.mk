# SPDX-License-Identifier: MIT
#
# The natten command.
