"""Data flows one way through the layers, and importing the plugin stays light."""

from __future__ import annotations

import ast
import io
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import pytest_loaderperf

PACKAGE = "pytest_loaderperf"
ROOT = Path(pytest_loaderperf.__file__).parent
LAYERS = [
    "data",
    "loader",
    "measurement",
    "judge",
    "diagnosis",
    "history",
    "scale",
    "report",
]  # each may import itself and what is to its left
LEAVES = ["errors", "units", "defaults", "arguments"]
UPPER = {
    "remote": ["data", "loader", "measurement"],
    "ranks": ["data", "loader", "measurement", "remote"],
    "runs": [*LAYERS, "remote", "ranks"],
    "ray": [*LAYERS, "remote", "ranks", "runs"],
    "engines": ["data", "loader", "measurement", "judge", "remote"],
}  # and what is above the layers
SHELL = ["plugin", "cli"]  # see all; nobody sees them
DATA = ["execution", "arrays", "arrow", "objects", "formats", "stores", "encoded", "choice"]  # of data: as the layers
BESIDE = {"workloads": ["arrays", "formats"], "split": ["workloads"], "checks": [*DATA[:-1], "workloads"]}
LAZILY = {"formats/picture_folder.py": "encoded"}  # in a function: a folder opens as pictures
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py"))
HEAVY = {"torch", "numpy", "pyarrow", "scipy", "psutil"}
MOST_LINES = 320
MOST_LOADER_LINES = 2500  # of code, in all: without blank lines, comments and docstrings


def imports(source, module):
    """Dotted names of everything that a source file imports, also inside functions and TYPE_CHECKING."""
    package = [PACKAGE, *Path(module).parts[:-1]]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            base += [node.module] if node.module else []
            yield from (".".join([*base, alias.name]) for alias in node.names)


def owner(module):
    """The layer, or the top module, that a file belongs to."""
    return Path(module).parts[0].removesuffix(".py")


def allowed(name):
    """The parts of the package that ``name``, a layer, a leaf or what is above, may import."""
    if name in LAYERS:
        return {*LEAVES, *LAYERS[: LAYERS.index(name) + 1]}
    if name in UPPER:
        return {*LEAVES, *UPPER[name], name}
    return {"errors", "defaults"} if name == "arguments" else {"errors"}


def breaches(source, module):
    inside = [name.split(".") for name in imports(source, module) if name.split(".")[0] == PACKAGE]
    return [".".join(parts) for parts in inside if parts[-1:] == [PACKAGE] or parts[1] not in allowed(owner(module))]


def room(module):
    """The room of data that a file lies in, or the file itself."""
    return Path(module).parts[1].removesuffix(".py")


def data_breaches(source, module):
    own = room(module)
    seen = BESIDE.get(own) or DATA[: DATA.index(own)]
    inside = [name.split(".") for name in imports(source, module) if name.startswith(f"{PACKAGE}.data.")]
    rooms = {(parts[2], ".".join(parts)) for parts in inside if parts[2] in {*DATA, *BESIDE}}
    late = LAZILY.get("/".join(Path(module).parts[1:]))
    return sorted(name for other, name in rooms if other not in {*seen, own, late})


def found_in(modules, look):
    """What ``look(source, module)`` finds, by module; a test of each would be a thousand tests."""
    found = {module: look((ROOT / module).read_text("utf-8"), module) for module in modules}
    return {module: what for module, what in found.items() if what}


def test_a_layer_imports_only_from_its_left_and_never_the_shell():
    layers = [module for module in MODULES if owner(module) in (*LAYERS, *LEAVES, *UPPER)]
    assert found_in(layers, breaches) == {}


@pytest.mark.parametrize(
    "module, source, found",
    [
        ("judge/claim.py", "from pytest_loaderperf.report import explain", ["pytest_loaderperf.report.explain"]),
        ("judge/claim.py", "from pytest_loaderperf import report", ["pytest_loaderperf.report"]),
        ("judge/claim.py", "import pytest_loaderperf.runs.run", ["pytest_loaderperf.runs.run"]),
        ("judge/claim.py", "import pytest_loaderperf", ["pytest_loaderperf"]),
        ("judge/claim.py", "def f():\n    from ..report import words", ["pytest_loaderperf.report.words"]),
        ("judge/claim.py", "from . import evidence\nfrom ..data import spec\nfrom ..errors import MeasureError", []),
        ("data/spec.py", "from pytest_loaderperf import measure", ["pytest_loaderperf.measure"]),
        ("errors.py", "from pytest_loaderperf.units import s", ["pytest_loaderperf.units.s"]),
        ("units.py", "from pytest_loaderperf.errors import ClaimError", []),
        (
            "report/words.py",
            "from pytest_loaderperf.plugin.settings import Settings",
            ["pytest_loaderperf.plugin.settings.Settings"],
        ),
    ],
)
def test_a_breach_is_found(module, source, found):
    assert breaches(source, module) == found


def test_a_room_of_data_imports_only_from_its_left():
    rooms = [module for module in MODULES if owner(module) == "data" and module != "data/__init__.py"]
    assert found_in(rooms, data_breaches) == {}


def test_a_breach_in_data_is_found():
    source = (
        "from pytest_loaderperf.data.stores import whole\nfrom pytest_loaderperf.data.arrays.tensors import as_tensor"
    )
    assert data_breaches(source, "data/formats/npy.py") == ["pytest_loaderperf.data.stores.whole"]
    assert data_breaches(source, "data/workloads/make.py") == ["pytest_loaderperf.data.stores.whole"]
    assert data_breaches(source, "data/choice.py") == []


def test_every_module_has_its_room():
    assert {owner(module) for module in MODULES if "/" in module} == {*LAYERS, *UPPER, *SHELL}
    assert {owner(module) for module in MODULES if "/" not in module} == {*LEAVES, "__init__"}
    assert {room(module) for module in MODULES if owner(module) == "data"} == {*DATA, *BESIDE, "__init__"}


def test_the_judge_and_the_simulation_have_no_clock_and_no_torch():
    def clocks(source, module):
        return {name.split(".")[0] for name in imports(source, module)} & {"time", "datetime", "torch"}

    assert found_in([module for module in MODULES if owner(module) in {"judge", "scale"}], clocks) == {}


@pytest.mark.parametrize("name", [PACKAGE, f"{PACKAGE}.plugin", f"{PACKAGE}.cli"])
def test_importing_the_plugin_imports_nothing_heavy(name):
    """In an interpreter of its own: this one has them all."""
    loaded = subprocess.run(
        [sys.executable, "-c", f"import {name}, sys; print(*{{m.split('.')[0] for m in sys.modules}})"],
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert PACKAGE in loaded
    assert HEAVY & set(loaded) == set()


def test_a_module_can_be_read_in_one_sitting():
    def lines_too_many(source, module):
        return max(0, len(source.splitlines()) - MOST_LINES + 1)

    assert found_in(MODULES, lines_too_many) == {}


def test_public_modules_classes_and_functions_say_what_they_are():
    def silent(source, module):
        tree, kinds = ast.parse(source), (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        public = [n for n in tree.body if isinstance(n, kinds) and not n.name.startswith(("_", "pytest_"))]
        return [node.name for node in public if not ast.get_docstring(node)] + ["itself"] * (
            not ast.get_docstring(tree)
        )

    assert found_in(MODULES, silent) == {}


def code_lines(source):
    """Numbers of the lines that hold code."""
    docstrings = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        for line in range(node.lineno, node.end_lineno + 1)
    }
    nothing = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(source).readline) if t.type not in nothing]
    return {line for t in tokens for line in range(t.start[0], t.end[0] + 1)} - docstrings


def test_code_lines_are_told_from_the_rest():
    head = '"""A\nmodule."""\n\nimport a  # why\n# a remark\nx = """\ntext"""\n\n'
    source = head + 'def f():\n    """Doc."""\n    g(\n        1\n    )\n'
    assert sorted(code_lines(source)) == [4, 6, 7, 9, 11, 12, 13]


def test_the_reference_loader_is_small_enough_to_read():
    lines = [len(code_lines((ROOT / module).read_text("utf-8"))) for module in MODULES if owner(module) == "loader"]
    assert sum(lines) < MOST_LOADER_LINES
