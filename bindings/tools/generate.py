#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make a language's layer from natten.h.

usage: generate.py LANGUAGE OUT --swig "SWIG COMMAND" --interface natten.i
       generate.py LANGUAGE OUT --tree tree.xml

LANGUAGE is julia (the ccall module; --library names the shared library) or r
(constants).  Runs SWIG for the parse tree, unless --tree gives one, and writes OUT in
one step at the end: a failure leaves an old OUT as it was.  The same header gives the
same bytes.
"""

import argparse
import os
import shlex
import subprocess
import sys
import tempfile

import parsetree
import write_julia
import write_r


def parse_tree(swig: str, interface: str, folder: str) -> str:
    """Let SWIG read the interface file; the path of the tree it writes.

    `swig -xml` refuses -doxygen, but the Python target without proxies writes the tree
    with the comments in it.  NATTEN_FOR_JULIA keeps typemaps away.
    """
    tree = os.path.join(folder, "tree.xml")
    subprocess.run(
        shlex.split(swig)
        + ["-python", "-noproxy", "-doxygen", "-DNATTEN_FOR_JULIA", "-outdir", folder]
        + ["-o", os.path.join(folder, "unused.c"), "-xmlout", tree, interface],
        check=True,
    )
    return tree


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("language", choices=["julia", "r"])
    parser.add_argument("out")
    parser.add_argument("--swig", help="SWIG's command line, with its -I")
    parser.add_argument("--interface", help="the interface file")
    parser.add_argument("--tree", help="a parse tree that SWIG wrote already")
    parser.add_argument("--header", default="natten.h", help="name of the header in it")
    parser.add_argument("--module", default="LibNATTEN", help="for Julia")
    parser.add_argument("--library", default="libnatten.so.0", help="for Julia")
    options = parser.parse_args()
    if options.tree is None and (options.swig is None or options.interface is None):
        parser.error("either --tree, or --swig and --interface")

    with tempfile.TemporaryDirectory() as folder:
        tree = options.tree or parse_tree(options.swig, options.interface, folder)
        items = parsetree.read_header(tree, options.header)
    if options.language == "julia":
        text = write_julia.write(items, options.header, options.module, options.library)
    else:
        text = write_r.write(items, options.header)

    beside = options.out + "-t"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(beside, options.out)


if __name__ == "__main__":
    try:
        main()
    except parsetree.Unfaithful as problem:
        sys.exit(f"generate.py: {problem}")
    except subprocess.CalledProcessError as problem:
        sys.exit(f"generate.py: SWIG failed with status {problem.returncode}")
