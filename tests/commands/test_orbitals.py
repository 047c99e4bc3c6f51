"""``dqc orbitals``: checkpoints that go on where they were, a table, and a picture."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dqc.cli import main

OPTIONS = ["--xc", "lda,vwn", "--grid", "1", "--shells", "5", "--hidden", "6"]


@pytest.fixture
def helium(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    Path("helium.xyz").write_text("1\n\nHe 0 0 0\n")
    return "helium.xyz"


def test_it_stops_and_goes_on(helium: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["orbitals", helium, *OPTIONS, "--conv", "1e-15", "--steps", "1"]) == 1
    assert "Not converged: 1 steps" in capsys.readouterr().out
    again = ["orbitals", helium, *OPTIONS, "--resume", "--json", "out.json", "--conv", "1e-5", "--steps", "9"]
    assert main(again) == 0
    printed, record = capsys.readouterr(), json.loads(Path("out.json").read_text())
    assert record["converged"]
    assert len(record["history"]) == record["steps"] + 1 > 2
    assert record["energy"] == pytest.approx(-2.834835624, abs=1e-4)
    assert f"total energy         {record['energy']:.8f} Ha" in printed.out
    assert "step" in printed.err
    assert Path("helium_orbitals.png").read_bytes()[:4] == b"\x89PNG"
    assert not [path for path in Path().iterdir() if path.suffix == ".partial"]
    assert record["history"][0] > record["energy"]
    assert main([*again, "--seed", "1"]) == 2
    assert "belongs to a run with other settings (seed): give the same options" in capsys.readouterr().err
    Path("helium_orbitals.safetensors").write_bytes(b"PK")
    assert main(again) == 2
    assert "is damaged or no checkpoint at all" in capsys.readouterr().err


def test_there_is_nothing_to_resume(helium: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["orbitals", helium, "--resume", "--checkpoint", "nowhere.safetensors"]) == 2
    assert "no file nowhere.safetensors" in capsys.readouterr().err


def test_a_level_that_is_none(helium: str, capsys: pytest.CaptureFixture) -> None:
    assert main(["orbitals", helium, "--grid", "7"]) == 2
    assert "grid=7 is not one of" in capsys.readouterr().err
