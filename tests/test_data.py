"""Reference data: what is read, what is refused, and splits that keep a molecule on one side."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqc.constants import ANGSTROM, HARTREE_IN_KCAL_PER_MOL
from dqc.data import Reactions, duplicates, read_reactions, same, split
from dqc.molecule import Molecule

WATER = [[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]]


def entry(elements: str, coords: list, charge: int = 0, mult: int = 1) -> dict[str, Any]:
    return {"charge": charge, "mult": mult, "elements": elements.split(), "coords": coords}


def record() -> dict[str, Any]:
    atoms = {x: entry(x, [[0.0, 0.0, 0.0]], mult=m) for x, m in (("H", 2), ("O", 3), ("N", 4))}
    turned = [[-z, x, y] for x, y, z in WATER]
    molecules = {
        "H2O": entry("O H H", WATER),
        "water": entry("O H H", turned),
        "H2O+": entry("O H H", WATER, charge=1, mult=2),
        "OH": entry("O H", [[0, 0, 0], [0, 0, 0.97]], mult=2),
        "N2": entry("N N", [[0, 0, 0], [0, 0, 1.1]]),
        "H2": entry("H H", [[0, 0, 0], [0, 0, 0.74]]),
        "H2 far": entry("H H", [[0, 0, 0], [0, 0, 1.5]]),
    }
    reactions = [
        ("atomization of water", ["H2O", "O", "H"], [-1, 1, 2], 232.6),
        ("ionisation of water", ["H2O+", "water"], [1, -1], 291.0),
        ("atomization of OH", ["OH", "O", "H"], [-1, 1, 1], 107.2),
        ("atomization of N2", ["N2", "N"], [-1, 2], 228.5),
        ("atomization of H2", ["H2", "H"], [-1, 2], 109.5),
        ("stretched H2", ["H2 far", "H"], [-1, 2], 50.0),
        ("water loses hydrogen", ["OH", "H", "water"], [1, 1, -1], 125.0),
    ]
    return {
        "format": "xcref-1",
        "set": "seven",
        "units": {"coordinates": "angstrom", "value": "kcal/mol"},
        "systems": atoms | molecules,
        "reactions": [{"id": i, "systems": s, "coeffs": c, "value": v} for i, s, c, v in reactions],
    }


def written(tmp_path: Path, data: dict[str, Any]) -> Path:
    path = tmp_path / "seven.json"
    path.write_text(json.dumps(data))
    return path


@pytest.fixture
def data(tmp_path: Path) -> Reactions:
    return read_reactions(written(tmp_path, record()))


def test_it_reads_molecules_and_values_in_atomic_units(data: Reactions) -> None:
    assert (data.name, len(data.molecules), len(data.reactions)) == ("seven", 10, 7)
    ion = data.molecules["H2O+"]
    assert (ion.charge, ion.spin, ion.formula) == (1, 1, "H2O")
    np.testing.assert_allclose(ion.coords, np.array(WATER) * ANGSTROM)
    first = data.reactions[0]
    assert first.value == pytest.approx(232.6 / HARTREE_IN_KCAL_PER_MOL)
    assert dict(zip(first.molecules, first.coefficients, strict=True)) == {"H2O": -1, "O": 1, "H": 2}


def test_a_molecule_is_the_same_however_it_is_turned(data: Reactions) -> None:
    assert duplicates(data) == [("H2O", "water")]
    assert not same(data.molecules["H2O"], data.molecules["H2O+"])
    assert not same(data.molecules["H2"], data.molecules["H2 far"])
    mirrored = Molecule(["H", "H", "O"], np.array(WATER)[::-1] * [1, 1, -1] * ANGSTROM)
    assert same(data.molecules["H2O"], mirrored)


@pytest.mark.parametrize("seed", range(8))
def test_no_molecule_is_on_two_sides(data: Reactions, seed: int) -> None:
    parts = split(data, (0.5, 0.25, 0.25), seed)
    assert sorted(r.name for part in parts for r in part.reactions) == sorted(r.name for r in data.reactions)
    for k, part in enumerate(parts):
        assert {n for r in part.reactions for n in r.molecules} == set(part.molecules)
        for other in parts[k + 1 :]:
            for a in part.molecules.values():
                assert len(a.symbols) == 1 or not any(same(a, b) for b in other.molecules.values())
    assert [r.name for p in split(data, (0.5, 0.25, 0.25), seed) for r in p.reactions] == [
        r.name for p in parts for r in p.reactions
    ]
    with_water = [p for p in parts if any("water" in r.name for r in p.reactions)]
    assert len(with_water) == 1
    assert "atomization of OH" in {r.name for r in with_water[0].reactions}  # bound by the last reaction


def test_splits_differ_with_the_seed(data: Reactions) -> None:
    found = {tuple(r.name for r in split(data, (0.5, 0.5), seed)[0].reactions) for seed in range(8)}
    assert len(found) > 2


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d.update(format="xcref-2"), "'xcref-1' is read"),
        (lambda d: d["units"].update(value="eV"), "values in hartree, kcal/mol"),
        (lambda d: d["systems"]["OH"].update(mult=1), "molecule 'OH': spin=0 with charge=0 is impossible"),
        (lambda d: d["systems"]["OH"].update(elements=["O", "Hx"]), "unknown element 'Hx'"),
        (lambda d: d["systems"]["OH"].pop("charge"), "it lacks 'charge'"),
        (lambda d: d["reactions"][2].update(systems=["OH-", "O", "H"]), "unknown molecule 'OH-'"),
        (lambda d: d["reactions"][2].update(coeffs=[1]), "3 molecules and 1 coefficients"),
        (lambda d: d["reactions"][2].update(value=None), "no finite number"),
        (lambda d: d["reactions"][2].update(value=float("nan")), "no finite number"),
    ],
)
def test_what_is_refused(tmp_path: Path, change: Callable[[dict], Any], sentence: str) -> None:
    broken = record()
    change(broken)
    with pytest.raises(ValueError, match=sentence):
        read_reactions(written(tmp_path, broken))


def test_paths_and_shares_are_checked(tmp_path: Path, data: Reactions) -> None:
    with pytest.raises(FileNotFoundError, match=r"nearest: seven\.json"):
        read_reactions(tmp_path / "sevn.json")
    (tmp_path / "text.json").write_text("no json")
    with pytest.raises(ValueError, match="is no JSON"):
        read_reactions(tmp_path / "text.json")
    with pytest.raises(ValueError, match="add up to 1"):
        split(data, (0.5, 0.6))
