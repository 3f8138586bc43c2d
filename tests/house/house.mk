# SPDX-License-Identifier: MIT
#
# Tests of the house itself: what is exported, how it is linked, whether it can be used
# once installed, whether the sources keep the rules.

house_tests = %D%/symbols.sh %D%/hardening.sh %D%/consume.sh %D%/lint.sh \
	%D%/readme.sh
TESTS += $(house_tests)
EXTRA_DIST += $(house_tests) tests/requirements.txt core/order.txt
