# SPDX-License-Identifier: MIT
#
# What all languages share: the interface file, and the generators that read the header
# through it.

EXTRA_DIST += %D%/natten.i \
	%D%/tools/generate.py %D%/tools/parsetree.py \
	%D%/tools/write_julia.py %D%/tools/write_r.py

EXTRA_DIST += %D%/tools/test_generate.py
if HAVE_PYTHON
TESTS += %D%/tools/test_generate.py
endif
