# SPDX-License-Identifier: MIT
"""Tests of the generator: what it reads, what it writes, and what it refuses.

Small headers go through the real SWIG; where it is missing (a build of a release),
those tests are skipped and say so.  Speaks TAP, for make check.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.dont_write_bytecode = True
sys.path.insert(0, str(HERE))

import parsetree  # noqa: E402
import write_julia  # noqa: E402
import write_r  # noqa: E402
from parsetree import Array, FunctionType, Named, Pointer, Unfaithful  # noqa: E402

SWIG = shutil.which(os.environ.get("SWIG") or "swig")
needs_swig = unittest.skipUnless(SWIG, "swig not found")


def read(header: str):
    """The items of a header given as text."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "small.h").write_text("#include <stdint.h>\n" + header)
        interface = Path(folder) / "small.i"
        interface.write_text('%module small\n%include <stdint.i>\n%include "small.h"\n')
        tree = Path(folder) / "tree.xml"
        subprocess.run(
            [SWIG, "-python", "-noproxy", "-doxygen", "-I" + folder, "-outdir", folder]
            + ["-o", folder + "/unused.c", "-xmlout", tree, interface],
            check=True,
            capture_output=True,
        )
        return parsetree.read_header(tree, "small.h")


def julia(header: str) -> str:
    return write_julia.write(read(header), "small.h", "Small", "libsmall.so.1")


class Types(unittest.TestCase):
    def test_declarators_are_read_outermost_first(self):
        for text, want in {
            "int32_t": Named("int32_t"),
            "enum natten_status": Named("natten_status"),
            "struct x": Named("x"),
            "unsigned int": Named("unsigned int"),
            "p.void": Pointer(Named("void"), False),
            "p.q(const).char": Pointer(Named("char"), True),
            "p.p.q(const).char": Pointer(Pointer(Named("char"), True), False),
            "a(3).int64_t": Array(3, Named("int64_t")),
            "a(2).a(3).int": Array(2, Array(3, Named("int"))),
            "p.f(p.void,int).int32_t": Pointer(FunctionType(), False),
        }.items():
            self.assertEqual(parsetree.read_type(text, "here"), want)

    def test_what_has_no_image_is_refused(self):
        for text in ("q(volatile).int", "q(const).int", "v(...)", "a(n).int", "a().x"):
            with self.assertRaises(Unfaithful):
                parsetree.read_type(text, "here")

    def test_the_result_follows_the_whole_parameter_list(self):
        for text, want in {
            "f(void).": "",
            "f(p.q(const).x,int).p.": "p.",
            "f(p.f(int,p.f(void).int).int).p.q(const).": "p.q(const).",
        }.items():
            self.assertEqual(parsetree.split_function(text, "here"), want)
        with self.assertRaises(Unfaithful):
            parsetree.split_function("f(p.q(const).x", "here")

    def test_constant_expressions_are_evaluated_and_nothing_else(self):
        names = {"A": 3}
        for text, want in {
            "7": 7,
            "-7": -7,
            "0x10UL": 16,
            "A + 1": 4,
            "(1u << 4) | A": 19,
            "~0": -1,
        }.items():
            self.assertEqual(parsetree.read_integer(text, names, "here"), want)
        for text in ("B", "1.5", "f(1)", "__import__('os')", "1 +", "A.x", "'a'"):
            with self.assertRaises(Unfaithful):
                parsetree.read_integer(text, names, "here")


class Comments(unittest.TestCase):
    def test_paragraphs_parameters_and_results_keep_their_order(self):
        comment = parsetree.read_comment(
            "\n * Does #this.\n * And that.\n *\n * @param size  bytes,\n"
            " *              at least 1\n * @return how many\n *\n * At last.\n "
        )
        self.assertEqual(
            comment.blocks,
            [
                (None, "Does this. And that."),
                ("size", "bytes, at least 1"),
                ("return", "how many"),
                (None, "At last."),
            ],
        )

    def test_an_unknown_command_is_refused(self):
        with self.assertRaises(Unfaithful):
            parsetree.read_comment("@deprecated for long")

    def test_quotes_and_dollars_are_harmless_in_a_docstring(self):
        item = parsetree.Constant(
            "A", 1, parsetree.read_comment('costs $5, "so" to say, back\\slash')
        )
        text = write_julia.write([item], "small.h", "Small", "libsmall.so.1")
        self.assertIn('costs \\$5, \\"so\\" to say, back\\\\slash', text)


HEADER = """
/** How many. */
#define SMALL_MANY 3
#define SMALL_NAME "small"
/** Colours. */
typedef enum small_colour {
    SMALL_RED = -1, /**< like blood */
    SMALL_GREEN,
    SMALL_BLUE = 1 << 4
} small_colour;
typedef struct small_box {
    int32_t end;    /**< where it ends */
    double size[3];
    const char *name;
    char *buffer;
    struct small_box *next;
} small_box;
typedef int32_t (*small_callback)(void *user, int);
/** Open it.
 * @param box the box */
small_colour small_open(const small_box *box, small_callback callback, uint8_t *type);
const char *small_name(void);
"""


@needs_swig
class Written(unittest.TestCase):
    def test_julia_gets_an_exact_image_of_each_thing(self):
        text = julia(HEADER.replace("struct small_box *next", "void *next"))
        for line in (
            'const LIBRARY = "libsmall.so.1"',
            "How many.",
            "const SMALL_MANY = 3",
            'const SMALL_NAME = "small"',
            "@enum small_colour::Cint begin",
            "    SMALL_RED = -1",
            "    SMALL_GREEN = 0",
            "    SMALL_BLUE = 16",
            "- `SMALL_RED`: like blood",
            "struct small_box",
            '    "where it ends"',
            "    end_::Int32",
            "    size::NTuple{3, Cdouble}",
            "    name::Cstring",
            "    buffer::Ptr{UInt8}",
            "    next::Ptr{Cvoid}",
            "const small_callback = Ptr{Cvoid}",
            "function small_open(box, callback, type)",
            "    @native LIBRARY.small_open(box::Ptr{small_box},",
            "        callback::small_callback,",
            "        type::Ptr{UInt8})::small_colour",
            "- `box`: the box",
            "    @native LIBRARY.small_name()::Cstring",
            '        ("end", fieldoffset(small_box, 1)),',
        ):
            self.assertIn(line + "\n", text + "\n")

    def test_r_gets_the_constants(self):
        items = read("#define SMALL_MANY 3\nenum small_e {A = -2, B};")
        text = write_r.write(items, "small.h")
        self.assertIn("SMALL_MANY <- 3L\n", text)
        self.assertIn("small_e <- c(\n  A = -2L,\n  B = -1L\n)\n", text)

    def test_the_real_header_gives_the_same_bytes_each_time(self):
        outs = []
        for language in ("julia", "julia", "r", "r"):
            with tempfile.TemporaryDirectory() as folder:
                out = Path(folder) / "out"
                self.run_generator(language, out, ROOT / "bindings" / "natten.i")
                outs.append(out.read_bytes())
        self.assertEqual(outs[0], outs[1])
        self.assertEqual(outs[2], outs[3])
        self.assertIn(b"natten_backward", outs[0])
        self.assertNotIn(os.fsencode(ROOT), b"".join(outs))

    def test_a_failure_leaves_the_old_layer(self):
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "natten.h").write_text("int f(int first, ...);")
            interface = Path(folder) / "bad.i"
            interface.write_text('%module bad\n%include "natten.h"\n')
            out = Path(folder) / "out"
            out.write_text("old")
            with self.assertRaises(subprocess.CalledProcessError) as caught:
                self.run_generator("julia", out, interface, folder)
            self.assertRegex(caught.exception.stderr, "generate.py: f")
            self.assertEqual(out.read_text(), "old")

    def run_generator(self, language, out, interface, include=None):
        include = include or ROOT / "core" / "include"
        subprocess.run(
            [sys.executable, "-B", HERE / "generate.py", language, out]
            + ["--swig", f"{SWIG} -I{include}", "--interface", interface],
            check=True,
            capture_output=True,
            text=True,
        )


@needs_swig
class Refused(unittest.TestCase):
    """Each header holds one thing without an exact image."""

    def test_headers_that_a_layer_would_have_to_guess_at(self):
        for header in (
            "int f(int first, ...);",
            "typedef struct s { int flags : 3; } s;",
            "typedef struct s { struct { int x; } in; } s;",
            "typedef union u { int i; float f; } u;",
            "typedef struct s s; int f(s *hidden);",
            "typedef struct s { unknown_type x; } s;",
            "typedef struct s { volatile int x; } s;",
            "int f(_Bool yes);",
            "int f(long double x);",
            "int f(int table[3]);",
            "int f(int);",
            "extern int variable;",
            "enum { NAMELESS = 1 };",
            "typedef enum e { HUGE = 4294967296 } e;",
            "/** @deprecated */ int f(void);",
        ):
            with self.subTest(header), self.assertRaises(Unfaithful):
                julia(header)

    def test_r_has_32_bits(self):
        with self.assertRaises(Unfaithful):
            write_r.write(read("#define SMALL_HUGE 2147483648"), "small.h")


class Tap(unittest.TestResult):
    """A line per test; what went wrong below it, as comments."""

    count = 0

    def line(self, word, test, rest="", problem=None):
        self.count += 1
        sentence = re.sub(r"^test_", "", test.id().rsplit(".", 1)[-1]).replace("_", " ")
        print(f"{word} {self.count} - {sentence}{rest}")
        if problem:
            for text in self._exc_info_to_string(problem, test).splitlines():
                print("#", text)

    def addSuccess(self, test):
        self.line("ok", test)

    def addFailure(self, test, err):
        super().addFailure(test, err)
        self.line("not ok", test, problem=err)

    addError = addFailure

    def addSubTest(self, test, subtest, err):
        if err is not None:
            super().addSubTest(test, subtest, err)
            self.line("not ok", test, f" ({subtest._message})", problem=err)

    def addSkip(self, test, reason):
        self.line("ok", test, f" # SKIP {reason}")


if __name__ == "__main__":
    result = Tap()
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    suite.run(result)
    print(f"1..{result.count}")
    sys.exit(0 if result.wasSuccessful() else 1)
