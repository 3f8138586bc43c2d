# SPDX-License-Identifier: MIT
#
# The natten command: forward, backward, denoise and the rest, on files.
