# SPDX-License-Identifier: MIT
#
# Documentation and man pages: what is shipped, what is installed, how pages are made.
