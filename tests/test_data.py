"""Reference data: what is read, what is refused, and splits that keep a molecule on one side."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqc.constants import ANGSTROM, BOHR_IN_ANGSTROM, HARTREE_IN_EV, HARTREE_IN_KCAL_PER_MOL
from dqc.data import Density, Labels, Reaction, Reactions, check, duplicates, read, same, split, write
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
    return read(written(tmp_path, record()))


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
        (lambda d: d.pop("reactions"), "has no 'reactions'"),
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
        read(written(tmp_path, broken))


def test_paths_and_shares_are_checked(tmp_path: Path, data: Reactions) -> None:
    with pytest.raises(FileNotFoundError, match=r"nearest: seven\.json"):
        read(tmp_path / "sevn.json")
    (tmp_path / "text.json").write_text("no json")
    with pytest.raises(ValueError, match="is no JSON"):
        read(tmp_path / "text.json")
    with pytest.raises(ValueError, match="add up to 1"):
        split(data, (0.5, 0.6))


def labelled(data: Reactions) -> Reactions:
    """The set with labels of every kind."""
    rng = np.random.default_rng(1)
    A = rng.normal(size=(2, 7, 7))
    P = A + A.swapaxes(1, 2)
    labels = {
        "H2O": Labels(
            energy=-76.37,
            dipole=rng.normal(size=3),
            forces=rng.normal(size=(3, 3)),
            ionisation=0.46,
            density=Density(np.stack([P[0], P[0]]), "sto-3g"),
        ),
        "OH": Labels(density=Density(P, "6-31g"), energy=-75.7),
        "N": Labels(energy=-54.5),
    }
    about = {"title": "seven reactions", "reference_level": "made up"}
    return Reactions(data.name, data.molecules, data.reactions, labels, about)


def assert_equal(a: Reactions, b: Reactions) -> None:
    assert (a.name, a.about, a.reactions) == (b.name, b.about, b.reactions)
    assert list(a.molecules) == list(b.molecules)
    for name, molecule in a.molecules.items():
        other = b.molecules[name]
        assert (molecule.symbols, molecule.charge, molecule.spin) == (other.symbols, other.charge, other.spin)
        np.testing.assert_allclose(molecule.coords, other.coords, rtol=1e-15, atol=0)
    assert a.labels.keys() == b.labels.keys()
    for name, known in a.labels.items():
        other_known = b.labels[name]
        assert known.known == other_known.known
        for key in set(known.known) - {"density"}:
            np.testing.assert_array_equal(getattr(known, key), getattr(other_known, key))
        if known.density is not None:
            assert known.density.basis == other_known.density.basis
            np.testing.assert_array_equal(known.density.matrix, other_known.density.matrix)


def test_what_is_written_is_read_again(tmp_path: Path, data: Reactions) -> None:
    before = labelled(data)
    write(before, tmp_path / "again.json")
    after = read(tmp_path / "again.json")
    assert_equal(before, after)
    write(after, tmp_path / "third.json")
    assert_equal(before, read(tmp_path / "third.json"))
    assert {path.name for path in tmp_path.iterdir()} == {
        *("seven.json", "again.json", "again.safetensors", "third.json", "third.safetensors")
    }


def test_labels_go_with_their_molecules(data: Reactions) -> None:
    part = labelled(data).only([r for r in data.reactions if r.name == "atomization of OH"])
    assert set(part.labels) == {"OH"}
    assert part.labels["OH"].known == ("energy", "density")
    assert part.about["title"] == "seven reactions"


def labels_of(entry: dict[str, Any]) -> Callable[[dict], Any]:
    return lambda d: d["systems"]["OH"].update(labels=entry)


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"dipole": [0.0, 1.0]}, r"molecule 'OH': the label dipole has the shape \(2,\): \(3,\) is expected"),
        ({"forces": [[0.0] * 3] * 3}, "molecule 'OH' has 2 atoms and forces on 3"),
        ({"forces": [0.0] * 3}, r"forces has the shape \(3,\): \(atoms, 3\) is expected"),
        ({"energy": float("inf")}, "energy is inf, which is not finite"),
        ({"energy": "much"}, "molecule 'OH': could not convert"),
        ({"enrgy": -1.0}, "unknown label 'enrgy', and energy, dipole"),
        ({"density": {"file": "seven.json"}}, "no density of that name"),
    ],
)
@pytest.mark.usefixtures("unchecked_types")
def test_labels_that_are_refused(tmp_path: Path, entry: dict[str, Any], sentence: str) -> None:
    broken = record()
    labels_of(entry)(broken)
    with pytest.raises(ValueError, match=sentence):
        read(written(tmp_path, broken))


@pytest.mark.usefixtures("unchecked_types")
def test_densities_that_are_refused(tmp_path: Path, data: Reactions) -> None:
    broken = record()
    labels_of({"density": {"file": "sevn.safetensors", "basis": "sto-3g"}})(broken)
    with pytest.raises(FileNotFoundError, match=r"no file .*sevn\.safetensors"):
        read(written(tmp_path, broken))
    with pytest.raises(ValueError, match="not symmetric"):
        Density(np.arange(8.0).reshape(2, 2, 2), "sto-3g")
    with pytest.raises(ValueError, match=r"\(2, n, n\) is expected"):
        Density(np.zeros((2, 2, 3)), "sto-3g")
    with pytest.raises(ValueError, match="unknown molecule 'OH-'"):
        Reactions("one", data.molecules, (), {"OH-": Labels(energy=-1.0)})
    with pytest.raises(ValueError, match=r"ends in \.json"):
        write(data, tmp_path / "set.txt")


def test_what_is_odd_is_said(data: Reactions) -> None:
    molecules = data.molecules | {"O singlet": Molecule(["O"], [[0.0, 0.0, 0.0]])}
    lost = Reaction("lost hydrogen", ("H2O", "OH"), (-1.0, 1.0), 0.2)
    charged = Reaction("ion", ("H2O+", "H2O"), (1.0, -1.0), 0.4)
    total = Reaction("total energy", ("H2O+",), (1.0,), -76.0)
    odd = check(Reactions("odd", molecules, (data.reactions[0], lost, charged, total)))
    assert [sentence.split(":")[0] for sentence in odd] == [
        "molecules 'H2O' and 'water' are the same",
        "molecule 'O singlet' is an atom with spin=0, and its ground state has 2",
        "reaction 'lost hydrogen' does not balance",
        "reaction 'ion' does not balance",
    ]
    assert "-1 H, charge +0" in odd[2]
    assert "all elements balanced, charge +1" in odd[3]


FRAMES = """3
Properties=species:S:1:pos:R:3:forces:R:3 energy=-2000.5 dipole="0.0 0.0 0.4" pbc="F F F"
O 0.0 0.0 0.12 0.0 0.0 1.5
H 0.0 0.76 -0.47 0.0 0.25 -0.75
H 0.0 -0.76 -0.47 0.0 -0.25 -0.75
2
Properties=species:S:1:pos:R:3 name=oxygen multiplicity=3 charge=0 energy=-4000.0 pbc="F F F"
O 0.0 0.0 0.0
O 0.0 0.0 1.2
2
Properties=species:S:1:pos:R:3 charge=1 spin=1 pbc="F F F"
H 0.0 0.0 0.0
H 0.0 0.0 1.0
"""


def test_frames_are_read_in_atomic_units(tmp_path: Path) -> None:
    pytest.importorskip("ase")
    path = tmp_path / "frames.xyz"
    path.write_text(FRAMES)
    data = read(path)
    assert list(data.molecules) == ["H2O 1", "oxygen", "H2 3"]
    assert [(m.charge, m.spin) for m in data.molecules.values()] == [(0, 0), (0, 2), (1, 1)]
    np.testing.assert_allclose(data.molecules["H2O 1"].coords, np.array(WATER) * ANGSTROM, atol=1e-14)
    assert [(r.name, r.molecules, r.coefficients) for r in data.reactions] == [
        ("H2O 1", ("H2O 1",), (1.0,)),
        ("oxygen", ("oxygen",), (1.0,)),
    ]
    water = data.labels["H2O 1"]
    assert data.reactions[0].value == water.energy == pytest.approx(-2000.5 / HARTREE_IN_EV)
    assert water.forces[0, 2] == pytest.approx(1.5 / HARTREE_IN_EV * BOHR_IN_ANGSTROM)
    assert water.dipole == pytest.approx([0, 0, 0.4 / BOHR_IN_ANGSTROM])
    assert set(data.labels) == {"H2O 1", "oxygen"}
    write(data, tmp_path / "frames.json")
    assert_equal(data, read(tmp_path / "frames.json"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("multiplicity=3", "multiplicity=3 spin=0", "frame 2: spin=0 .* contradict"),
        ("multiplicity=3", "multiplicity=2", "frame 2: spin=1 with charge=0 is impossible for 16 electrons"),
        ("charge=1 spin=1", "name=oxygen charge=1", "frame 3: its name 'oxygen' is that of an earlier frame"),
        ('spin=1 pbc="F F F"', 'Lattice="9 0 0 0 9 0 0 0 9"', "frame 3: the ASE atoms are periodic"),
        ("O 0.0 0.0 1.2", "O 0.0 here 1.2", "cannot be read as extended xyz"),
    ],
)
def test_frames_that_are_refused(tmp_path: Path, old: str, new: str, sentence: str) -> None:
    pytest.importorskip("ase")
    path = tmp_path / "frames.xyz"
    path.write_text(FRAMES.replace(old, new))
    with pytest.raises(ValueError, match=sentence):
        read(path)


def test_without_ase_a_sentence_names_the_extra(tmp_path: Path) -> None:
    (tmp_path / "frames.xyz").write_text(FRAMES)
    code = "import sys; sys.modules['ase'] = None\nfrom dqc.data import read; read(sys.argv[1])"
    command = [sys.executable, "-c", code, str(tmp_path / "frames.xyz")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "pip install dqc-jax[ase]" in ran.stderr.splitlines()[-1]
