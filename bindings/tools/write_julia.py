# SPDX-License-Identifier: MIT
"""Write a header as a Julia module of ccalls.

What lives here: the image of each C thing in Julia.  Enums become @enum, structs isbits
structs with the same fields, `const char *` a Cstring, `char *` a buffer of bytes, a
callback a bare pointer; comments become docstrings.  `layout()` lists size and offsets
of each struct as Julia sees them, for the package to hold against the loaded library.

A type without an exact image is an error.
"""

import re
from typing import List

from parsetree import (
    Array,
    Comment,
    Constant,
    Enum,
    Function,
    FunctionType,
    Item,
    Named,
    Pointer,
    Struct,
    Type,
    Typedef,
    Unfaithful,
)

# `bool` is missing on purpose: a C bool other than 0 or 1 has no Julia image.
PRIMITIVE = {
    "void": "Cvoid",
    "signed char": "Int8",
    "unsigned char": "UInt8",
    "short": "Cshort",
    "unsigned short": "Cushort",
    "int": "Cint",
    "unsigned int": "Cuint",
    "long": "Clong",
    "unsigned long": "Culong",
    "long long": "Clonglong",
    "unsigned long long": "Culonglong",
    "float": "Cfloat",
    "double": "Cdouble",
    "size_t": "Csize_t",
    **{f"int{bits}_t": f"Int{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}_t": f"UInt{bits}" for bits in (8, 16, 32, 64)},
}

RESERVED = frozenset(
    "baremodule begin break catch const continue do else elseif end export false"
    " finally for function global if import let local macro module quote return struct"
    " true try using while".split()
)

PREAMBLE = '''\
# Made from {header} by bindings/tools. Do not edit.
"""
The C interface of libnatten as it is in {header}: constants, enums, structs, and a
function per function. Nothing is checked here; `NATTEN` is the package to use.
"""
module {module}

# One dlopen by path makes the library known under this name (see library.jl).
const LIBRARY = "{library}"

# Call the library. Where Julia can (1.12), other threads may collect garbage meanwhile.
macro native(call)
    VERSION >= v"1.12" ? esc(:(@ccall gc_safe = true $call)) : esc(:(@ccall $call))
end
'''


class _Writer:
    def __init__(self):
        self.known = set()  # names that Julia has seen so far
        self.structs: List[Struct] = []
        self.lines: List[str] = []

    def type(self, t: Type, where: str) -> str:
        if isinstance(t, Array):
            return f"NTuple{{{t.length}, {self.type(t.element, where)}}}"
        if isinstance(t, Pointer):
            if isinstance(t.target, FunctionType):
                return "Ptr{Cvoid}"
            if t.target == Named("char"):
                return "Cstring" if t.const else "Ptr{UInt8}"
            return f"Ptr{{{self.type(t.target, where)}}}"
        if isinstance(t, Named) and t.name in PRIMITIVE:
            return PRIMITIVE[t.name]
        if isinstance(t, Named) and t.name in self.known:
            return t.name
        raise Unfaithful(f"{where}: {t} has no image in Julia")

    def name(self, name: str) -> str:
        return name + "_" if name in RESERVED else name

    def docstring(self, paragraphs: List[str], indent: str = "") -> None:
        """Paragraphs as a Julia docstring; nothing where there is nothing to say."""
        text = "\n\n".join(p for p in paragraphs if p)
        if not text:
            return
        text = text.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$")
        if indent:
            self.lines.append(f'{indent}"{text}"')
        else:
            self.lines += ['"""', text, '"""']

    def constant(self, c: Constant) -> None:
        self.docstring(markdown(c.comment))
        value = f'"{c.value}"' if isinstance(c.value, str) else repr(c.value)
        self.lines += [f"const {c.name} = {value}", ""]

    def enum(self, e: Enum) -> None:
        members = "\n".join(
            f"- `{m.name}`: {' '.join(markdown(m.comment))}"
            for m in e.members
            if m.comment.blocks
        )
        self.docstring(markdown(e.comment) + [members])
        # The type of a C enum is the compiler's choice: int where a member is negative.
        base = "Cint" if min(m.value for m in e.members) < 0 else "Cuint"
        self.lines.append(f"@enum {e.name}::{base} begin")
        self.lines += [f"    {m.name} = {m.value}" for m in e.members]
        self.lines += ["end", ""]
        self.known.add(e.name)

    def struct(self, s: Struct) -> None:
        self.docstring(markdown(s.comment))
        self.lines.append(f"struct {s.name}")
        for f in s.fields:
            self.docstring(markdown(f.comment), "    ")
            where = f"{s.name}.{f.name}"
            self.lines.append(f"    {self.name(f.name)}::{self.type(f.type, where)}")
        self.lines += ["end", ""]
        self.known.add(s.name)
        self.structs.append(s)

    def typedef(self, t: Typedef) -> None:
        image = self.type(t.type, t.name)
        self.docstring(markdown(t.comment))
        self.lines += [f"const {t.name} = {image}", ""]
        self.known.add(t.name)

    def function(self, f: Function) -> None:
        names = [self.name(p.name) for p in f.parameters]
        types = [self.type(p.type, f"{f.name}({p.name})") for p in f.parameters]
        returns = self.type(f.returns, f.name)
        self.docstring(
            [f"    {f.name}({', '.join(names)})::{returns}"] + markdown(f.comment)
        )
        self.lines.append(f"function {f.name}({', '.join(names)})")
        arguments = ",\n        ".join(f"{n}::{t}" for n, t in zip(names, types))
        self.lines.append(
            f"    @native LIBRARY.{f.name}({arguments})::{returns}\nend\n"
        )

    def layout(self) -> None:
        self.lines += [
            "# (struct, size, ((field, offset), ...)) as Julia lays them out.",
            "layout() = [",
        ]
        for s in self.structs:
            offsets = "".join(
                f'\n        ("{f.name}", fieldoffset({s.name}, {i})),'
                for i, f in enumerate(s.fields, 1)
            )
            self.lines.append(f'    ("{s.name}", sizeof({s.name}), ({offsets}\n    )),')
        self.lines += ["]", ""]


def markdown(comment: Comment) -> List[str]:
    """Paragraphs of a comment; neighbouring parameters form one list."""
    paragraphs: List[str] = []
    in_list = False
    for kind, text in comment.blocks:
        text = re.sub(r"\b(natten_\w+\(\)|NULL)", r"`\1`", text)
        if kind is None:
            paragraphs.append(text)
        elif kind == "return":
            paragraphs.append(f"Returns {text}")
        elif in_list:
            paragraphs[-1] += f"\n- `{kind}`: {text}"
        else:
            paragraphs.append(f"- `{kind}`: {text}")
        in_list = kind not in (None, "return")
    return paragraphs


def write(items: List[Item], header: str, module: str, library: str) -> str:
    writer = _Writer()
    handlers = {
        Constant: writer.constant,
        Enum: writer.enum,
        Struct: writer.struct,
        Typedef: writer.typedef,
        Function: writer.function,
    }
    for item in items:
        handlers[type(item)](item)
    writer.layout()
    top = PREAMBLE.format(header=header, module=module, library=library)
    return top + "\n" + "\n".join(writer.lines) + "\nend # module\n"
