"""A system survives its file bit by bit, and a damaged file is refused with a sentence."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import dqc
from dqc import storage


def build(xc: str = "pbe", **options: object) -> dqc.System:
    mol = dqc.Molecule.from_string("O 0 0 0; H 0 0 0.97")
    return dqc.build(mol, basis="sto-3g", xc=dqc.functional(xc), grid=0, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def system() -> dqc.System:
    return build(ao="recomputed")


@pytest.fixture
def path(system: dqc.System, tmp_path: Path) -> Path:
    storage.save(system, tmp_path / "oh.dqc")
    return tmp_path / "oh.dqc"


def same(a: dqc.System, b: dqc.System) -> bool:
    if jax.tree.structure(a) != jax.tree.structure(b):
        return False
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in pairs)


@pytest.mark.parametrize(
    ("xc", "options"),
    [("pbe", {}), ("hf", {"two_electron": "exact"}), ("camb3lyp", {})],
)
def test_round_trip(tmp_path: Path, xc: str, options: dict) -> None:
    system = build(xc, ao="recomputed", **options)
    storage.save(system, tmp_path / "system")
    assert same(storage.load(tmp_path / "system", ao="recomputed"), system)
    assert [entry.name for entry in tmp_path.iterdir()] == ["system"]


def test_orbital_values_are_not_written_but_computed_anew(system: dqc.System, tmp_path: Path) -> None:
    stored = build(ao="stored")
    storage.save(stored, tmp_path / "system")
    assert not any(name.endswith(".ao") and "grid" in name for name in load_file(tmp_path / "system"))
    assert same(storage.load(tmp_path / "system", ao="recomputed"), system)
    again = storage.load(tmp_path / "system", ao="stored")
    assert same(again, stored)


def test_it_runs_without_pyscf(path: Path) -> None:
    code = (
        "import sys; sys.modules['pyscf'] = None\n"
        "import dqc; xc = dqc.functional('pbe'); system = dqc.load(sys.argv[1])\n"
        "print(repr(float(dqc.scf(system, xc).energy)))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    expected = dqc.scf(storage.load(path), dqc.functional("pbe")).energy
    assert float(ran.stdout) == pytest.approx(float(expected), abs=1e-9)


def damage(path: Path, **header: str) -> None:
    metadata = {
        "format": "dqc system",
        "version": storage.VERSION,
        "tree": '{"class": "Grid", "fields": {}}',
    }
    save_file(load_file(path), path, metadata=metadata | header)


def test_files_that_are_no_system_are_refused(path: Path) -> None:
    damage(path, version="99")
    with pytest.raises(ValueError, match=f"of version 99, and version {storage.VERSION} is read"):
        storage.load(path)
    damage(path, format="else")
    with pytest.raises(ValueError, match="holds no system"):
        storage.load(path)
    damage(path)
    with pytest.raises(ValueError, match="does not fit this program's Grid: blocks"):
        storage.load(path)
    damage(path, tree='{"class": "Fitted", "fields": {"omega": "array", "factor": "array"}}')
    with pytest.raises(ValueError, match="damaged"):
        storage.load(path)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="damaged or no system"):
        storage.load(path)


def test_numbers_that_are_not_finite_are_refused(system: dqc.System, tmp_path: Path) -> None:
    storage.save(dataclasses.replace(system, overlap=system.overlap.at[0, 0].set(np.nan)), tmp_path / "bad")
    with pytest.raises(ValueError, match="not finite, in overlap"):
        storage.load(tmp_path / "bad")


def test_a_missing_file_names_its_neighbours(path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file .*ho\.dqc \(nearest: oh\.dqc\)"):
        storage.load(path.with_name("ho.dqc"))
