# SPDX-License-Identifier: MIT
"""Threads, instruction sets, and what the library is: process-wide questions."""

from typing import List, Optional

from . import capi

__all__ = [
    "build_info",
    "cpu_variants",
    "get_num_threads",
    "set_cpu_variant",
    "set_num_threads",
]


def set_num_threads(threads: int) -> None:
    """Threads of later calls, the calling one included, in the whole process.

    0 means the default: the environment variable ``NATTEN_NUM_THREADS``, else the CPUs
    that the process may use.  Results do not depend on it, not even in their last bits.
    """
    capi.natten_set_num_threads(threads)


def get_num_threads() -> int:
    """Threads that a call would use now."""
    return int(capi.natten_get_num_threads())


def cpu_variants() -> List[str]:
    """Instruction sets of the CPU backend that run on this machine, best last."""
    names: str = capi.natten_cpu_variants()
    return names.split()


def set_cpu_variant(name: Optional[str]) -> None:
    """Choose one of :func:`cpu_variants` for later calls, in the whole process.

    None means the default: the environment variable ``NATTEN_CPU_VARIANT``, else the
    best. Results of two variants differ in their last bits.

    Raises ValueError for a name that is not among them.
    """
    capi.natten_set_cpu_variant(name)


def build_info() -> str:
    """What the loaded library was built with, a line per fact."""
    return str(capi.natten_build_info())
