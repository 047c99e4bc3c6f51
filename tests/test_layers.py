"""The library is a stack of layers; this walks every import in dqc/ and holds the stack upright."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "dqc"

# THE TABLE. A module imports from its own row or from rows above it; a folder stands for all it holds.
# A new module is added to the lowest-numbered row whose purpose it shares.
LAYERS: tuple[tuple[str, ...], ...] = (
    (
        "types",
        "constants",
        "names",
        "linalg",
        "occupations",
        "tree",
        "derivatives",
        "minres",
        "paths",
        "tensors",
        "pictures",
    ),  # 0 arrays, units, linear algebra, padding
    ("xyz", "molecule", "basis", "grid"),  # 1 what is computed: host-side molecule, shells, grid points
    ("integrals", "xc"),  # 2 two wings that do not know each other
    ("system", "density", "batch", "nuclei"),  # 3 all arrays of one calculation; density matrix -> features
    ("energy", "guess"),  # 4 one term a line; where the density matrix starts
    (
        "solution",
        "diis",
        "iterations",
        "scf",
        "stability",
        "response",
        "implicit",
        "minimiser",
        "variational",
        "orbitals",
    ),  # 5 solvers
    ("properties", "losses"),  # 6 quantities of a solution
    (
        "training",
        "data",
        "interop",
        "cli",
        "commands",
        "cache",
        "storage",
        "checkpoint",
        "__main__",
    ),  # 7 prints, reads or writes
)

# Pairs that the rows alone would allow: (a module, what it must not import).
FORBIDDEN = {
    ("xc", "integrals"): "the functional wing knows no integrals",
    ("integrals", "xc"): "the integral wing knows no functionals",
    ("xc", "molecule"): "a functional never sees a molecule",
    ("xc", "basis"): "a functional never sees a basis",
    ("xc", "grid"): "a functional never sees a grid",
}

# PySCF is a provider of integrals, basis sets, grids, guesses and functionals, and nothing else.
PYSCF = {
    "integrals.libcint",
    "integrals.libcint_derivatives",
    "basis",
    "grid",
    "guess",
    "molecule",
    "xc.libxc",
    "interop",
}

# Below the last row nothing prints, logs or opens files, but for the two doors named here.
TOUCHES_FILES = {
    "molecule": "Molecule.from_xyz reads the file it is given",
    "xc.files": "functional reads the file it is given",
}
SPEAKING_MODULES = {"logging", "tqdm", "warnings"}
SPEAKING_CALLS = {"print", "open", "input"}
SPEAKING_METHODS = {
    "open",
    "read_text",
    "write_text",
    "read_bytes",
    "write_bytes",
    "savez",
    "savetxt",
    "loadtxt",
}


def modules() -> dict[str, Path]:
    """Module name without the package's -> file, the package's own __init__ left out."""
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            names[name] = path
    return names


def layer(name: str) -> int | None:
    top = name.split(".")[0]
    return next((number for number, row in enumerate(LAYERS) if top in row), None)


def covers(names: set[str] | dict[str, str], name: str) -> bool:
    """Whether a module, or a folder that holds it, is among the names."""
    parts = name.split(".")
    return any(".".join(parts[:end]) in names for end in range(1, len(parts) + 1))


def imports(tree: ast.AST, package: str = "dqc") -> Iterator[tuple[str, int]]:
    """Every dotted name imported anywhere in a file, inside functions too, with its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import; write {package}.<module>"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def own(imported: str, known: dict[str, Path]) -> str | None:
    """The module of ours that an imported name belongs to, or None for another package's."""
    parts = imported.split(".")
    if parts[0] != "dqc":
        return None
    for end in range(len(parts), 1, -1):
        if ".".join(parts[1:end]) in known:
            return ".".join(parts[1:end])
    return "dqc"


def layer_faults(name: str, tree: ast.AST, known: dict[str, Path]) -> list[str]:
    faults = []
    mine = layer(name)
    if mine is None:
        return [f"module {name!r} is in no row of LAYERS: add it to the table in tests/test_layers.py"]
    for imported, line in imports(tree):
        target = own(imported, known)
        if target is None:
            continue
        where = f"{name}:{line} imports {imported}"
        theirs = layer(target)
        if target == "dqc" and mine < len(LAYERS) - 1:
            faults.append(f"{where}: inside the library, import from the module that defines the name")
        elif theirs is not None and theirs > mine:
            faults.append(f"{where}: layer {mine} must not import from layer {theirs}")
        reason = FORBIDDEN.get((name.split(".")[0], target.split(".")[0]))
        if reason:
            faults.append(f"{where}: {reason}")
    return faults


def pyscf_faults(name: str, tree: ast.AST) -> list[str]:
    if covers(PYSCF, name):
        return []
    return [
        f"{name}:{line} imports {imported}: only {', '.join(sorted(PYSCF))} may import PySCF"
        for imported, line in imports(tree)
        if imported.split(".")[0] == "pyscf"
    ]


def speech_faults(name: str, tree: ast.AST) -> list[str]:
    if layer(name) == len(LAYERS) - 1 or covers(TOUCHES_FILES, name):
        return []
    faults = [
        f"{name}:{line} imports {imported}"
        for imported, line in imports(tree)
        if imported.split(".")[0] in SPEAKING_MODULES
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in {"stdout", "stderr"}:
            faults.append(f"{name}:{node.lineno} uses {node.attr}")
        if not isinstance(node, ast.Call):
            continue
        called = node.func
        if isinstance(called, ast.Name) and called.id in SPEAKING_CALLS:
            faults.append(f"{name}:{node.lineno} calls {called.id}")
        elif isinstance(called, ast.Attribute) and called.attr in SPEAKING_METHODS:
            faults.append(f"{name}:{node.lineno} calls .{called.attr}")
    return [f"{fault}: only the last layer prints, logs or touches files" for fault in faults]


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Rings of modules that import one another, each as the path that closes it."""
    found: list[list[str]] = []
    done: set[str] = set()

    def visit(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
        elif name not in done:
            for target in sorted(graph.get(name, ())):
                visit(target, [*path, name])
            done.add(name)

    for name in graph:
        visit(name, [])
    return found


@pytest.mark.parametrize("name", modules())
def test_a_module_keeps_to_its_layer(name: str) -> None:
    tree = ast.parse(modules()[name].read_text())
    faults = layer_faults(name, tree, modules()) + pyscf_faults(name, tree) + speech_faults(name, tree)
    assert not faults, "\n" + "\n".join(faults)


def test_modules_do_not_import_in_rings() -> None:
    known = modules()
    graph: dict[str, set[str]] = {}
    for name, path in known.items():
        targets = {own(imported, known) for imported, _ in imports(ast.parse(path.read_text()))}
        graph[name] = {target for target in targets if target} - {name, "dqc"}
    assert not cycles(graph), "\n".join(" -> ".join(ring) for ring in cycles(graph))


def test_every_name_in_the_table_is_in_one_row() -> None:
    names = [name for row in LAYERS for name in row]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "source", "fault"),
    [
        ("density", "from dqc.scf import scf", "layer 3 must not import from layer 5"),
        ("density", "def f():\n    import dqc.scf", "layer 3 must not import from layer 5"),
        ("xc.pbe", "from dqc import molecule", "never sees a molecule"),
        ("integrals.jk", "import dqc.xc.features", "knows no functionals"),
        ("energy", "from dqc import Molecule", "from the module that defines the name"),
        ("energy", "from pyscf import gto", "may import PySCF"),
        ("scf", "print(1)", "calls print"),
        ("scf", "import sys\nsys.stderr.write('x')", "uses stderr"),
        ("scf", "import logging", "imports logging"),
        ("system", "open('x')", "calls open"),
        ("system", "from pathlib import Path\nPath('x').read_text()", "calls .read_text"),
        ("novelty", "x = 1", "add it to the table"),
    ],
)
def test_a_fault_is_found(name: str, source: str, fault: str) -> None:
    known = dict.fromkeys(["scf", "molecule", "xc.features", "density", "energy"], ROOT)
    tree = ast.parse(source)
    faults = layer_faults(name, tree, known) + pyscf_faults(name, tree) + speech_faults(name, tree)
    assert any(fault in found for found in faults), faults


def test_a_ring_is_found() -> None:
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"a"}}) == [["a", "b", "c", "a"]]
    assert cycles({"a": {"b", "c"}, "b": {"c"}}) == []
