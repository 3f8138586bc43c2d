# SPDX-License-Identifier: MIT
"""Read a C header out of the parse tree that SWIG writes with -xmlout.

What lives here: a small model of a header (constants, enums, structs, typedefs,
functions, each with its comment) and the reader that fills it.  The writers beside this
file (write_julia.py, write_r.py) turn the model into a language's layer.  One reading
of the header serves all of them, so that no two languages can disagree about it.

What may be assumed: the tree comes from SWIG 4.1 or newer reading plain C99, for a
target without typemaps of its own, so that C types stand in it unchanged.  Anything
else (a variadic function, a bit-field, a union, a qualifier that is not const, a value
that is not a constant) is an error, never a guess.

SWIG writes a type outermost first: "p.q(const).char" is a pointer to const char,
"a(3).int64_t" an array, "f(int32_t).p." before a type a function that returns a
pointer.
"""

import ast
import re
import xml.etree.ElementTree
from dataclasses import dataclass, field
from typing import List, Optional, Tuple, Union


class Unfaithful(Exception):
    """The header has something that the model or a language can't show exactly."""


# ---- the model ----------------------------------------------------------------------


@dataclass(frozen=True)
class Named:
    """A type with a name: int64_t, void, natten_params."""

    name: str


@dataclass(frozen=True)
class Pointer:
    target: "Type"
    const: bool  # of the target


@dataclass(frozen=True)
class Array:
    length: int
    element: "Type"


@dataclass(frozen=True)
class FunctionType:
    """What a callback points to; its signature matters to C alone."""


Type = Union[Named, Pointer, Array, FunctionType]


@dataclass
class Comment:
    """A documentation comment: blocks in their order.

    A block is (None, paragraph), (parameter, its text) or ("return", text).
    """

    blocks: List[Tuple[Optional[str], str]] = field(default_factory=list)


@dataclass
class Constant:
    name: str
    value: Union[int, float, str]
    comment: Comment


@dataclass
class Enum:
    name: str
    members: List[Constant]
    comment: Comment


@dataclass
class Variable:
    """A field of a struct or a parameter of a function."""

    name: str
    type: Type
    comment: Comment


@dataclass
class Struct:
    name: str
    fields: List[Variable]
    comment: Comment


@dataclass
class Typedef:
    name: str
    type: Type
    comment: Comment


@dataclass
class Function:
    name: str
    returns: Type
    parameters: List[Variable]
    comment: Comment


Item = Union[Constant, Enum, Struct, Typedef, Function]


# ---- comments -----------------------------------------------------------------------

_COMMAND = re.compile(r"[@\\](\w+)")


def read_comment(text: Optional[str]) -> Comment:
    """Split a doxygen comment into blocks; an unknown command is an error."""
    blocks: List[Tuple[Optional[str], List[str]]] = [(None, [])]
    for line in (text or "").splitlines():
        line = re.sub(r"^\s*\*? ?", "", line).strip().lstrip("<").strip()
        command = _COMMAND.match(line)
        if command is None:
            if line == "" and blocks[-1][1]:
                blocks.append((None, []))
            elif line:
                blocks[-1][1].append(line)
        elif command[1] == "param":
            name, _, rest = line[command.end() :].strip().partition(" ")
            blocks.append((name, [rest.strip()]))
        elif command[1] in ("return", "returns"):
            blocks.append(("return", [line[command.end() :].strip()]))
        else:
            raise Unfaithful(f"comment command @{command[1]} in: {line}")
    # "#natten_status" is doxygen's link; the name alone reads well everywhere.
    return Comment(
        [
            (kind, re.sub(r"#(\w+)", r"\1", " ".join(lines)))
            for kind, lines in blocks
            if lines
        ]
    )


# ---- types and values ---------------------------------------------------------------


def read_type(text: str, where: str) -> Type:
    """A type as SWIG writes it, outermost declarator first."""
    if text.startswith("p."):
        rest = text[2:]
        const = rest.startswith("q(const).")
        return Pointer(read_type(rest[len("q(const).") * const :], where), const)
    if text.startswith("a("):
        match = re.match(r"a\((\d+)\)\.", text)
        if match is None:
            raise Unfaithful(f"{where}: array without a fixed length, '{text}'")
        return Array(int(match[1]), read_type(text[match.end() :], where))
    if text.startswith("f("):
        return FunctionType()
    if text.startswith("q(") or text.startswith("v("):
        raise Unfaithful(f"{where}: '{text}' (qualified or variadic)")
    name = re.sub(r"^(struct|enum) ", "", text)
    if not re.fullmatch(r"\w+( \w+)*", name):
        raise Unfaithful(f"{where}: type '{text}'")
    return Named(name)


def split_function(declarator: str, where: str) -> str:
    """What follows the parameter list of "f(...).p.": the declarator of the result."""
    depth = 0
    for i, c in enumerate(declarator):
        depth += (c == "(") - (c == ")")
        if c == ")" and depth == 0:
            return declarator[i + 1 :].lstrip(".")
    raise Unfaithful(f"{where}: declarator '{declarator}'")


_ARITHMETIC = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.Constant,
    ast.Name,
    ast.Load,
    ast.Add,
    ast.Sub,
    ast.Mult,
    ast.LShift,
    ast.RShift,
    ast.BitOr,
    ast.BitAnd,
    ast.USub,
    ast.Invert,
)


def read_integer(text: str, names: dict, where: str) -> int:
    """A C integer constant expression; earlier constants and enumerators may occur."""
    plain = re.sub(r"\b(0[xX][0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", text).strip()
    try:
        tree = ast.parse(plain, mode="eval")
    except SyntaxError as error:
        raise Unfaithful(f"{where}: value '{text}'") from error
    if not all(isinstance(node, _ARITHMETIC) for node in ast.walk(tree)):
        raise Unfaithful(f"{where}: value '{text}'")
    try:
        value = eval(compile(tree, where, "eval"), {"__builtins__": {}}, dict(names))
    except NameError as error:
        raise Unfaithful(f"{where}: value '{text}'") from error
    if not isinstance(value, int):
        raise Unfaithful(f"{where}: value '{text}' is not an integer")
    return value


# ---- the reader ---------------------------------------------------------------------


def _attributes(node) -> dict:
    found = node.find("attributelist")
    if found is None:
        return {}
    return {a.get("name"): a.get("value") for a in found.findall("attribute")}


class _Reader:
    def __init__(self):
        self.items: List[Item] = []
        self.integers: dict = {}  # constants and enumerators so far, by name
        self.types: set = set()  # names that the header has defined so far

    def constant(self, _node, a):
        name, kind, text = a["name"], a["type"], a["value"]
        value: Union[int, float, str]
        if "char" in kind:
            value = text
        elif kind in ("double", "float"):
            value = float(text)
        else:
            value = read_integer(text, self.integers, name)
            self.integers[name] = value
        self.items.append(Constant(name, value, read_comment(a.get("doxygen"))))

    def enum(self, node, a):
        if not a.get("name"):
            raise Unfaithful("an enum without a name")
        members, value = [], -1
        for member in node.findall("enumitem"):
            b = _attributes(member)
            # SWIG computes "previous + 1" as enumvalueex; a written value comes first.
            written = b.get("enumvalue") or b.get("enumvalueex")
            value = (
                value + 1
                if written is None
                else read_integer(written, self.integers, b["name"])
            )
            self.integers[b["name"]] = value
            members.append(Constant(b["name"], value, read_comment(b.get("doxygen"))))
        if not all(-(2**31) <= m.value < 2**31 for m in members):
            raise Unfaithful(f"{a['name']}: a member does not fit in a C int")
        self.types.add(a["name"])
        self.items.append(Enum(a["name"], members, read_comment(a.get("doxygen"))))

    def structure(self, node, a):
        name, fields = a["name"], []
        if a.get("kind") != "struct" or node.findall("class"):
            raise Unfaithful(f"{name}: a union, or a struct inside a struct")
        for member in node.findall("cdecl"):
            b = _attributes(member)
            where = f"{name}.{b['name']}"
            if b.get("kind") != "variable" or "bitfield" in b:
                raise Unfaithful(f"{where}: not a plain field")
            fields.append(
                Variable(
                    b["name"],
                    read_type(b["decl"] + b["type"], where),
                    read_comment(b.get("doxygen")),
                )
            )
        if not fields:
            raise Unfaithful(f"{name}: a struct without fields")
        self.types.add(name)
        self.items.append(Struct(name, fields, read_comment(a.get("doxygen"))))

    def declaration(self, node, a):
        if a.get("kind") == "typedef":
            self.typedef(a)
        elif a.get("kind") == "function":
            self.function(node, a)
        else:
            raise Unfaithful(f"{a.get('name')}: declaration of kind {a.get('kind')}")

    def typedef(self, a):
        name = a["name"]
        same = a["decl"] == "" and re.sub(r"^(struct|enum) ", "", a["type"]) == name
        if same and name in self.types:
            return  # the second half of "typedef struct x {...} x;"
        if same:
            raise Unfaithful(f"{name}: a struct that the header does not define")
        self.types.add(name)
        comment = read_comment(a.get("doxygen"))
        self.items.append(
            Typedef(name, read_type(a["decl"] + a["type"], name), comment)
        )

    def function(self, node, a):
        name, parameters = a["name"], []
        result = split_function(a["decl"], name)
        for number, parm in enumerate(node.findall("attributelist/parmlist/parm")):
            b = _attributes(parm)
            if b["type"] == "void":
                continue
            if not b.get("name"):
                raise Unfaithful(f"{name}: parameter {number + 1} has no name")
            kind = read_type(b["type"], f"{name}({b['name']})")
            if isinstance(kind, Array):
                raise Unfaithful(f"{name}({b['name']}): an array as parameter")
            parameters.append(Variable(b["name"], kind, Comment()))
        returns = read_type(result + a["type"], name)
        self.items.append(
            Function(name, returns, parameters, read_comment(a.get("doxygen")))
        )

    def read(self, node):
        handlers = {
            "constant": self.constant,
            "enum": self.enum,
            "class": self.structure,
            "cdecl": self.declaration,
        }
        a = _attributes(node)
        if node.tag in handlers:
            handlers[node.tag](node, a)
        elif node.tag not in ("attributelist", "typemap", "insert", "include"):
            raise Unfaithful(f"unexpected <{node.tag}> {a.get('name')}")


def read_header(path, header: str) -> List[Item]:
    """The items of `header` (a file name, natten.h) in the parse tree at `path`."""
    root = xml.etree.ElementTree.parse(path).getroot()
    found = [
        node
        for node in root.iter("include")
        if _attributes(node).get("name", "").split("/")[-1] == header
    ]
    if len(found) != 1:
        raise Unfaithful(f"{header} is included {len(found)} times")
    reader = _Reader()
    for node in found[0]:
        reader.read(node)
    return reader.items
