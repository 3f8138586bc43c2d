# SPDX-License-Identifier: MIT
"""python -m natten.gradcheck2d: gradients of the 2-D operations, checked."""

import sys

from ._gradcheck import run


def main() -> int:
    return run(2)


if __name__ == "__main__":
    sys.exit(main())
