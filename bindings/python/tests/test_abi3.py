# SPDX-License-Identifier: MIT
"""The module for all Pythons from 3.9 on compiles, says so, and passes tests.

make builds a module for one Python, by whichever SWIG is there; pip builds this one.
scripts/wheel tries it on several Pythons.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import natten

SOURCE = Path(__file__).resolve().parents[3]
HERE = Path(__file__).resolve().parent


def new_swig():
    """A SWIG that knows the stable ABI: of the virtual environment, or on the path."""
    beside = shutil.which("swig", path=str(Path(sys.executable).parent))
    for swig in (beside, shutil.which("swig")):
        if swig is None:
            continue
        said = subprocess.run([swig, "-version"], capture_output=True, text=True)
        version = re.search(r"Version (\d+)\.(\d+)", said.stdout)
        if version and tuple(map(int, version.groups())) >= (4, 2):
            return swig
    pytest.skip("no SWIG of 4.2 or newer")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A copy of the package with the module for all Pythons in it."""
    library = os.environ.get("NATTEN_LIBRARY")
    headers = sysconfig.get_path("include")
    compiler = os.environ.get("CC", "cc").split()
    if not library:
        pytest.skip("no NATTEN_LIBRARY: not in a build tree")
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        pytest.skip("this Python has no stable ABI")
    if not shutil.which(compiler[0]) or not Path(headers, "Python.h").exists():
        pytest.skip("no C compiler, or no headers of Python")
    folder = tmp_path_factory.mktemp("abi3")
    copy = folder / "natten"
    shutil.copytree(Path(natten.__file__).parent, copy)
    (copy / "_capi.so").unlink()
    include = f"-I{SOURCE / 'core' / 'include'}"
    wrapper = folder / "capi_wrap.c"
    subprocess.run(
        [new_swig(), "-python", "-threads", "-doxygen", "-module", "capi", "-interface",
         "_capi", include, "-outdir", str(copy), "-o", str(wrapper),
         str(SOURCE / "bindings" / "natten.i")],
        check=True,
    )
    subprocess.run(
        [*compiler, "-std=gnu11", "-O1", "-Wall", "-Werror", "-shared", "-fPIC",
         "-DPy_LIMITED_API=0x03090000", f"-I{headers}", include,
         f"-I{SOURCE / 'bindings' / 'python'}", str(wrapper), library, "-o",
         str(copy / "_capi.abi3.so")],
        check=True,
    )
    return copy


def test_the_module_is_loaded_and_passes_the_tests_of_arrays_and_errors(package):
    environment = {**os.environ, "PYTHONPATH": str(package.parent)}
    loaded = "import natten._capi as c; print(c.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", loaded], env=environment, capture_output=True, text=True
    )
    assert said.stdout.strip() == str(package / "_capi.abi3.so"), said.stderr
    files = ("arrays", "errors", "lifetime", "attention")
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
         *(str(HERE / f"test_{name}.py") for name in files)],
        env=environment, capture_output=True, text=True,
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
