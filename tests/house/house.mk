# SPDX-License-Identifier: MIT
#
# Tests of the house itself: what is exported, how it is linked, whether it can be used
# once installed, whether the sources keep the rules.
