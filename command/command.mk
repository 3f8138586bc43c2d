# SPDX-License-Identifier: MIT
#
# The natten command: a user of the public library like any other.  Only gradcheck asks
# the core for more: it reads problem texts, with the one reader that there is.

bin_PROGRAMS += %D%/natten

%C%_natten_SOURCES = \
	%D%/attention.c \
	%D%/basis.c %D%/basis.h \
	%D%/call.c %D%/call.h \
	%D%/command.c %D%/command.h \
	%D%/denoise.c \
	%D%/element.c %D%/element.h \
	%D%/features.c %D%/features.h \
	%D%/gradcheck.c \
	%D%/gradcheck_data.c %D%/gradcheck_data.h \
	%D%/info.c \
	%D%/main.c \
	%D%/merge.c \
	%D%/noise.c %D%/noise.h \
	%D%/nonlocal.c %D%/nonlocal.h \
	%D%/npy.c %D%/npy.h \
	%D%/npy_header.c %D%/npy_header.h \
	%D%/options.c %D%/options.h \
	%D%/output.c %D%/output.h \
	%D%/pair.c \
	%D%/picture.c %D%/picture.h \
	%D%/picture_jpeg.c \
	%D%/picture_png.c \
	%D%/progress.c %D%/progress.h \
	%D%/report.c %D%/report.h \
	%D%/rows.c %D%/rows.h
%C%_natten_CFLAGS = $(AM_CFLAGS) $(PNG_CFLAGS) $(JPEG_CFLAGS) $(JANSSON_CFLAGS)
%C%_natten_LDADD = core/libnatten.la core/libnatten_core.la \
	$(PNG_LIBS) $(JPEG_LIBS) $(JANSSON_LIBS)

# ---- man pages ------------------------------------------------------------------------
# Made from the command's own --help by make man, which needs help2man, and kept, so that
# nobody else does.

man_subcommands = forward backward qk av merge denoise gradcheck info
dist_man_MANS += \
	%D%/natten.1 \
	%D%/natten-av.1 \
	%D%/natten-backward.1 \
	%D%/natten-denoise.1 \
	%D%/natten-forward.1 \
	%D%/natten-gradcheck.1 \
	%D%/natten-info.1 \
	%D%/natten-merge.1 \
	%D%/natten-qk.1
EXTRA_DIST += %D%/man-page

man: %D%/natten
	$(SHELL) '$(srcdir)/%D%/man-page' %D%/natten '$(srcdir)/%D%' $(man_subcommands)
.PHONY: man

# ---- tests ----------------------------------------------------------------------------

command_tests = \
	tests/command/arrays.sh \
	tests/command/denoise.sh \
	tests/command/gradcheck.sh \
	tests/command/npy.sh \
	tests/command/usage.sh
COMMAND_TESTS += $(command_tests)
EXTRA_DIST += $(command_tests) tests/command/support.sh

# ---- denoising: the comparison, its page, its pictures ----------------------------------

EXTRA_DIST += bench/compare_denoise.py docs/denoise.md docs/pictures/denoise.png \
	docs/decisions/command-libraries.md
