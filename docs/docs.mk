# SPDX-License-Identifier: MIT
#
# Documentation and man pages: what is shipped, what is installed, how pages are made.

dist_doc_DATA += %D%/cpu-bench.md %D%/cpu-kernels.md %D%/definition.md %D%/problem-text.md
EXTRA_DIST += %D%/decisions/README.md %D%/decisions/thread-pool.md \
	%D%/decisions/one-wheel.md %D%/decisions/five-products.md \
	%D%/decisions/small-windows-gpu.md %D%/decisions/large-windows-gpu.md \
	%D%/decisions/warpgroups-gpu.md %D%/decisions/bands-gpu.md %D%/decisions/bits-of-a-batch.md \
	%D%/decisions/launch-overlap.md
