# SPDX-License-Identifier: MIT
#
# What all languages share: the generators and the generated layers.
