# SPDX-License-Identifier: MIT
"""python -m natten.gradcheck1d: gradients of the 1-D operations, checked."""

import sys

from ._gradcheck import run


def main() -> int:
    return run(1)


if __name__ == "__main__":
    sys.exit(main())
