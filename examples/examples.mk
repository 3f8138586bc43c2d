# SPDX-License-Identifier: MIT
#
# Short programs, compiled against the public header and run by make check.

example_programs = %D%/forward %D%/smoothing %D%/stream
check_PROGRAMS += $(example_programs)

# They see what a user sees: the installed header and nothing else of core/.
example_cppflags = -I$(top_srcdir)/core/include
%C%_forward_SOURCES = %D%/forward.c
%C%_forward_CPPFLAGS = $(example_cppflags)
%C%_forward_LDADD = core/libnatten.la
%C%_smoothing_SOURCES = %D%/smoothing.c
%C%_smoothing_CPPFLAGS = $(example_cppflags)
%C%_smoothing_LDADD = core/libnatten.la
%C%_stream_SOURCES = %D%/stream.c
%C%_stream_CPPFLAGS = $(example_cppflags)
%C%_stream_LDADD = core/libnatten.la

COMMAND_TESTS += %D%/examples.sh
EXTRA_DIST += %D%/examples.sh

# In Python; bindings/python/tests/test_examples.py runs them, docs/examples.md shows them.
dist_doc_DATA += docs/examples.md
EXTRA_DIST += docs/pictures/digits.png docs/pictures/photograph.png \
	docs/pictures/plots.png docs/pictures/sequence.png docs/pictures/video.png
EXTRA_DIST += %D%/digits.py %D%/nonlocal_means.py %D%/photograph.py %D%/plots.py \
	%D%/sequence.py %D%/video.py
