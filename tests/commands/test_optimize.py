"""``dqc optimize``: a line a step, a geometry that is kept, and a status that tells how it ended."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import dqc
from dqc.cli import main
from dqc.constants import BOHR_IN_ANGSTROM, HARTREE_IN_EV

pytest.importorskip("ase")

WATER = "3\ncharge=0 spin=0\nO 0 0 0.12\nH 0 0.76 -0.47\nH 0.05 -0.76 -0.47\n"
METHOD = ["--xc", "lda,vwn", "--basis", "sto-3g", "--grid", "1"]


@pytest.fixture
def water(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "water.xyz").write_text(WATER)
    return "water.xyz"


def steps(printed: str) -> list[list[str]]:
    return [words for line in printed.splitlines() if (words := line.split()) and words[0].isdecimal()]


def test_it_converges_and_keeps_the_geometry(water: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["optimize", water, *METHOD, "--trajectory", "path.xyz"]) == 0
    printed = capsys.readouterr().out
    rows = [row for row in steps(printed) if len(row) > 1]
    assert [int(row[0]) for row in rows] == list(range(len(rows)))
    energies = [float(row[1]) for row in rows]
    assert energies == sorted(energies, reverse=True)
    assert float(rows[-1][-1]) < 0.02
    assert f"Converged: {len(rows) - 1} steps" in printed
    found = dqc.Molecule.from_xyz("water_optimized.xyz")
    assert Path("water_optimized.xyz").read_text() in printed
    xc = dqc.functional("lda,vwn")
    system = dqc.build(found, "sto-3g", xc, grid=1)
    sol = dqc.scf(system, xc, tolerance=1e-6)
    assert float(sol.energy) == pytest.approx(energies[-1], abs=1e-8)
    assert abs(dqc.forces(system, xc, sol)).max() * HARTREE_IN_EV / BOHR_IN_ANGSTROM < 0.02

    from ase.io import read

    frames = read("path.xyz", ":")
    assert len(frames) == len(rows)
    assert frames[0].get_potential_energy() / HARTREE_IN_EV == pytest.approx(energies[0], abs=1e-8)


def test_too_few_steps_end_with_status_1(water: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["optimize", water, *METHOD, "--steps", "1", "--output", "last.xyz"]) == 1
    assert "Not converged: 1 steps" in capsys.readouterr().out
    assert dqc.Molecule.from_xyz("last.xyz").symbols == ("O", "H", "H")


def test_a_field_that_does_not_converge_is_one_sentence(water: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["optimize", water, *METHOD, "--conv", "1e-30"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("dqc: Not converged:")
    assert told.count("\n") == 1
    assert "No geometry was written." in told
    assert not Path("water_optimized.xyz").exists()


def test_an_output_that_cannot_be_written_is_refused_first(water: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["optimize", water, *METHOD, "--output", "nowhere/out.xyz"]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_without_ase_one_sentence_names_the_extra() -> None:
    code = "import sys; sys.modules['ase'] = None\nfrom dqc.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "optimize", "water.xyz"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 2
    assert ran.stderr.startswith("dqc: ")
    assert ran.stderr.count("\n") == 1
    assert "pip install dqc-jax[ase]" in ran.stderr
