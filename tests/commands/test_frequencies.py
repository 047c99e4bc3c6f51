"""``dqc frequencies`` and ``dqc energy --forces`` print what the library computes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import dqc
from dqc.cli import main

WATER = dqc.Molecule(["O", "H", "H"], [[0, 0, 0.22], [0, 1.44, -0.9], [0.1, -1.44, -0.88]])
METHOD = ["--xc", "lda,vwn", "--basis", "sto-3g", "--grid", "1"]


@pytest.fixture
def water(tmp_path: Path) -> str:
    (tmp_path / "water.xyz").write_text(WATER.to_xyz())
    return str(tmp_path / "water.xyz")


def test_frequencies(water: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["frequencies", water, *METHOD, "--json", str(tmp_path / "out.json")]) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    xc = dqc.functional("lda,vwn")
    found = dqc.vibrations(WATER, dqc.build(WATER, "sto-3g", xc, grid=1), xc)
    np.testing.assert_allclose(record["frequencies"], found.frequencies, atol=0.05)
    np.testing.assert_allclose(record["intensities"], found.intensities, rtol=1e-3)
    assert np.shape(record["hessian"]) == (3, 3, 3, 3)
    told = capsys.readouterr()
    rows = [line.split() for line in told.out.splitlines() if line.split()[:1] in (["1"], ["2"], ["3"])]
    assert [row[1] for row in rows] == [f"{value:.2f}" for value in record["frequencies"]]
    assert [row[2] for row in rows] == [f"{value:.3f}" for value in record["intensities"]]
    assert "not a stationary point" in told.out
    assert [f"displaced {n} of 3 atoms" for n in (1, 2, 3)] == told.err.splitlines()


def test_frequencies_without_a_field(water: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["frequencies", water, *METHOD, "--conv", "1e-30"]) == 1
    assert "Not converged" in capsys.readouterr().out


def test_forces_of_the_energy_command(water: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["energy", water, *METHOD, "--forces", "--json", str(tmp_path / "out.json")]) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["residual"] < 1e-6
    assert record["method"]["tolerance"] == 1e-6
    xc = dqc.functional("lda,vwn")
    expected = np.asarray(dqc.forces(dqc.build(WATER, "sto-3g", xc, grid=1), xc))
    np.testing.assert_allclose(record["forces"], expected, atol=2e-6)
    lines = capsys.readouterr().out.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("forces / (Ha/bohr)"))
    printed = [line.split() for line in lines[start + 1 : start + 4]]
    assert [row[:2] for row in printed] == [["1", "O"], ["2", "H"], ["3", "H"]]
    np.testing.assert_allclose(np.array([row[2:] for row in printed], float), record["forces"], atol=1e-8)
