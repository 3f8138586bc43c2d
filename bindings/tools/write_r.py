# SPDX-License-Identifier: MIT
"""Write a header's constants for R.

SWIG's R target drops macros silently and turns enums into strings that a .Call looks
up; here they are plain R: an integer per macro, a named integer vector per enum.  R's
integers have 32 bits, the lowest of which is NA; a value beyond is an error.
"""

from typing import List

from parsetree import Constant, Enum, Item, Unfaithful


def _value(c: Constant) -> str:
    if isinstance(c.value, str):
        escaped = c.value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    if isinstance(c.value, float):
        return repr(c.value)
    if abs(c.value) >= 2**31:
        raise Unfaithful(f"{c.name}: {c.value} is not an integer of R")
    return f"{c.value}L"


def _comment(text: str) -> List[str]:
    """A comment wrapped by words at 88 columns."""
    lines: List[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= 88:
            lines[-1] += " " + word
        else:
            lines.append("# " + word)
    return lines


def write(items: List[Item], header: str) -> str:
    lines = [f"# Made from {header} by bindings/tools. Do not edit.", ""]
    for item in items:
        if isinstance(item, (Constant, Enum)):
            lines += _comment(" ".join(text for _, text in item.comment.blocks))
        if isinstance(item, Constant):
            lines += [f"{item.name} <- {_value(item)}", ""]
        elif isinstance(item, Enum):
            members = ",\n".join(f"  {m.name} = {_value(m)}" for m in item.members)
            lines += [f"{item.name} <- c(", members, ")", ""]
    return "\n".join(lines[:-1]) + "\n"
