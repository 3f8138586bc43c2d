# SPDX-License-Identifier: MIT
"""The face of the package: names, signatures, types, documentation."""

import importlib.metadata
import inspect
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import natten
from natten import capi

PACKAGE = Path(natten.__file__).parent
SOURCE = Path(__file__).resolve().parents[3]
FUNCTIONS = {
    name: getattr(natten, name)
    for name in natten.__all__
    if inspect.isfunction(getattr(natten, name))
}


def test_the_signature_is_the_one_that_scripts_of_today_use():
    wanted = (
        "(query, key, value, kernel_size, stride=1, dilation=1, is_causal=False, "
        "scale=None, additional_keys=None, additional_values=None, *, bias=None, "
        "return_lse=False, grid_length=None, query_begin=None, key_begin=None, "
        "backend=None, device=None, **ignored)"
    )
    for function in (natten.na1d, natten.na2d, natten.na3d):
        assert str(inspect.signature(function)) == wanted
    assert list(inspect.signature(natten.merge_attentions).parameters)[:2] == [
        "outputs",
        "lse_tensors",
    ]
    assert list(inspect.signature(natten.attention).parameters)[:5] == [
        "query",
        "key",
        "value",
        "is_causal",
        "scale",
    ]


def test_gradients_are_named_by_what_they_belong_to(random):
    q = random.normal(size=(1, 5, 2, 3))
    gradients = natten.na_backward(q, q, q, q, 3)
    assert gradients._fields == (
        "grad_query",
        "grad_key",
        "grad_value",
        "grad_bias",
        "grad_additional_keys",
        "grad_additional_values",
    )
    assert gradients.grad_query.shape == q.shape and gradients.grad_bias is None


def test_version_is_the_librarys():
    assert re.fullmatch(r"\d+\.\d+\.\d+", natten.__version__)
    assert natten.__version__ == capi.natten_version()
    assert f"version {natten.__version__}" in natten.build_info()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_says_what_it_does(name):
    text = FUNCTIONS[name].__doc__
    assert text and text.strip().splitlines()[0].endswith((".", ":"))


OPERATIONS = [name for name in FUNCTIONS if name.startswith(("na", "att", "merge"))]


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_document_shapes_errors_and_source(name):
    text = FUNCTIONS[name].__doc__
    for part in (
        "Parameters",
        "Returns",
        "Raises",
        "[batch, ",
        "Source: definition.md",
    ):
        assert part in text


def test_older_functions_and_modules_document_shapes_errors_and_source():
    older = [getattr(natten.functional, f"na{r}d_{x}") for r in (1, 2, 3)
             for x in ("qk", "av")]
    for function in older:
        for part in ("[batch, heads, ", "tokens", "Raises", "Source: definition.md"):
            assert part in function.__doc__
    pytest.importorskip("torch")
    for rank in (1, 2, 3):
        text = getattr(natten, f"NeighborhoodAttention{rank}D").__doc__
        for part in ("Shapes: [batch, ", "Raises", "Source: "):
            assert part in text
    for rank in (1, 2):
        text = getattr(natten, f"LegacyNeighborhoodAttention{rank}D").__doc__
        assert f"of NeighborhoodAttention{rank}D" in text and "ValueError" in text


@pytest.mark.parametrize(
    "function, axes",
    [
        (natten.na1d, "length"),
        (natten.na2d, "height, width"),
        (natten.na3d, "depth, height, width"),
    ],
)
def test_each_rank_names_its_axes(function, axes):
    assert f"query : array [batch, {axes}, heads, head_dim]" in function.__doc__


def test_the_table_of_axes_is_in_the_package_and_in_the_page():
    page = (SOURCE / "docs" / "python.md").read_text()
    for text in (natten.__doc__, page):
        for row in (
            "[batch, axes..., heads, head_dim]",
            "[batch, axes..., heads]",
            "[heads, 2 kernel_size - 1 per axis]",
        ):
            assert row in text


WITH_TORCH = "coming-from-natten.md", "python-gradcheck.md", "python-modules.md"
PAGES = sorted(
    page.name
    for pattern in ("python*.md", "coming-from-natten.md")
    for page in (SOURCE / "docs").glob(pattern)
)


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(page):
    text = (SOURCE / "docs" / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    assert blocks
    for framework in ("torch", "jax"):
        if framework in page or (framework == "torch" and page in WITH_TORCH):
            pytest.importorskip(framework)
    names = {}
    for block in blocks:
        exec(compile(block, f"docs/{page}", "exec"), names)


def test_every_module_has_a_page():
    pages = {page[len("python-") : -len(".md")] for page in PAGES if "-" in page}
    modules = {p.stem for p in PACKAGE.glob("*.py") if not p.stem.startswith("_")}
    modules = {"gradcheck" if m.startswith("gradcheck") else m for m in modules}
    assert modules - {"capi"} <= pages | {"from-natten"}
    for page in ("python-functional.md", "python-modules.md", "python-torch.md"):
        text = (SOURCE / "docs" / page).read_text()
        for part in ("[batch, ", "rror", "Source", "definition.md"):
            assert part in text, (page, part)


def test_the_example_of_the_package_runs():
    import doctest

    assert doctest.testmod(natten).failed == 0


def test_plan_says_how_a_call_would_be_made(random):
    q = random.normal(size=(1, 13, 17, 2, 8))
    text = natten.plan(q, q, q, (3, 5))
    assert "fwd fp64 b1 h2 d8 13x17 w3x5" in text and "backend" in text
    assert "reference" in natten.plan(q, q, q, 3, backend="reference")
    assert "bwd fp64" in natten.plan(q, q, q, 3, operation="backward")
    attn = natten.na_qk(q, q, 3)
    assert "av fp64" in natten.plan(attn, q, kernel_size=3, operation="av")
    with pytest.raises(ValueError, match="kernel_size"):
        natten.plan(q, q, q, 14)


@pytest.mark.filterwarnings("error")
def test_numbers_may_be_numpys(random):
    q = random.normal(size=(1, 7, 11, 2, 3))
    expected = natten.na2d(q, q, q, (3, 5), is_causal=(False, True), scale=0.5)
    for window, causal, scale in (
        ([3, 5], [0, 1], np.float32(0.5)),
        (np.array([3, 5]), np.array([False, True]), np.float64(0.5)),
        ((np.int32(3), np.int64(5)), (np.False_, np.True_), np.array(0.5)),
        (range(3, 6, 2), (0, True), 0.5),
    ):
        got = natten.na2d(q, q, q, window, is_causal=causal, scale=scale)
        assert got.tobytes() == expected.tobytes()
    one = natten.na2d(q, q, q, 3, is_causal=True)
    assert (
        natten.na2d(q, q, q, np.array(3), is_causal=np.True_).tobytes() == one.tobytes()
    )


@pytest.fixture
def natten_build(monkeypatch):
    monkeypatch.syspath_prepend(str(SOURCE / "bindings" / "python" / "pip"))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return pytest.importorskip("natten_build")


def test_the_distribution_is_named_natten():
    assert importlib.metadata.version("natten") == natten.__version__


def test_make_installs_the_programs_of_pip(natten_build, tmp_path):
    path = str(PACKAGE.parent)
    natten_build.install(tmp_path / "packages", tmp_path / "bin", path)
    (found,) = importlib.metadata.distributions(path=[str(tmp_path / "packages")])
    assert (found.name, found.version) == ("natten", natten.__version__)
    for name in ("gradcheck1d.py", "gradcheck2d.py"):
        result = subprocess.run(
            [tmp_path / "bin" / name, "--help"], capture_output=True, text=True
        )
        assert result.returncode == 0 and "--dilation" in result.stdout, result.stderr


@pytest.mark.parametrize(
    "settings, options",
    [
        (None, []),
        ({"other": "x"}, []),
        ({"configure": "--with-cuda --with-cuda-archs='80 90a'"},
         ["--with-cuda", "--with-cuda-archs=80 90a"]),
        ({"configure": ["--with-cuda", "CC=gcc"]}, ["--with-cuda", "CC=gcc"]),
    ],
)
def test_pip_hands_options_to_configure(settings, options, natten_build):
    assert natten_build.asked_for(settings) == options


def test_natten_does_not_import_torch():
    code = (
        "import natten, sys, numpy as n; q = n.zeros((1, 5, 1, 2)); "
        "natten.na1d(q, q, q, 3); print('torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert answer.stdout == "False\n", answer.stderr


# ---- types ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Run mypy in a folder of its own, on the package that is being tested."""
    pytest.importorskip("mypy")
    folder = tmp_path_factory.mktemp("mypy")
    # Reading torch and jax takes half a minute; once is enough.
    (folder / "frugal.ini").write_text(
        "[mypy-torch.*,jax.*]\nfollow_imports = skip\nfollow_imports_for_stubs = true\n"
    )
    environment = {
        **os.environ,
        "MYPY_CACHE_DIR": str(folder / "cache"),
    }

    def run(*arguments, program=None, path=PACKAGE.parent):
        if program:
            (folder / "program.py").write_text(program)
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env={**environment, "MYPYPATH": str(path)},
        )

    return run


def test_the_package_is_typed(mypy):
    assert (PACKAGE / "py.typed").exists()
    result = mypy("mypy", "--strict", "-p", "natten")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_code_behind_the_stubs_is_typed_too(mypy, tmp_path):
    """A stub hides the bodies of its module; here they stand alone."""
    shutil.copytree(PACKAGE, tmp_path / "natten")
    (tmp_path / "natten" / "_functional.pyi").unlink()
    check = "mypy", "--config-file=frugal.ini", "--check-untyped-defs", "-p", "natten"
    result = mypy(*check, path=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    code = tmp_path / "natten" / "_functional.py"
    wrong = code.read_text().replace("lse = make(q.shape", "lse = make(1, q.shape", 1)
    code.write_text(wrong)
    result = mypy(*check, path=tmp_path)
    assert "Too many arguments" in result.stdout


GOOD = """import natten, numpy as np
q = np.zeros((1, 5, 2, 3))
out, lse = natten.na1d(q, q, q, 3, return_lse=True)
g = natten.na_backward(q, q, q, out, kernel_size=(3,), lse=lse, out=out)
shape = g.grad_query.shape, natten.na1d(q, q, q, 3).shape
merged, _ = natten.merge_attentions([out], [lse])
"""


def test_a_users_program_is_checked(mypy):
    check = "mypy", "--config-file=frugal.ini", "--strict", "program.py"
    result = mypy(*check, program=GOOD)
    assert result.returncode == 0, result.stdout + result.stderr
    bad = GOOD + "natten.na1d(q, q, q, 'three')\n"
    result = mypy(*check, program=bad)
    assert "program.py:7" in result.stdout and "incompatible type" in result.stdout


def test_the_stubs_are_the_functions(mypy):
    # All that has a stub; the other modules are checked as they are.
    assert {p.name for p in PACKAGE.glob("*.pyi")} == {"_functional.pyi", "capi.pyi"}
    modules = ["natten._functional", "natten._runtime", "natten._arrays"]
    config = "--mypy-config-file=frugal.ini"
    result = mypy("mypy.stubtest", *modules, config, "--ignore-missing-stub")
    assert result.returncode == 0, result.stdout + result.stderr
