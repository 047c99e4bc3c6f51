"""``dqc check`` prints what the library computes."""

from __future__ import annotations

import builtins
import json
import sys
from pathlib import Path

import pytest

from dqc.cli import main


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output, picture = tmp_path / "pbe.json", tmp_path / "pbe.png"
    assert main(["check", "pbe", "--json", str(output), "--figure", str(picture)]) == 0
    record, told = json.loads(output.read_text()), capsys.readouterr()
    violated = {name for name, row in record["conditions"].items() if not row["satisfied"]}
    assert violated == {
        "gradient_expansion",
        "nonuniform_scaling",
        "two_electron_bound",
        "conjectured_kinetic_bound",
        "one_electron_correlation",
    }
    for name in violated:
        assert any(line.split()[:2] == [name, "violated"] for line in told.out.splitlines())
    assert "(mu = 0.21951, 10/81 = 0.12346)" in told.out
    assert "15 of 20 conditions are satisfied." in told.out
    figures = list(record["figures_mHa"].values())
    assert figures[0] == pytest.approx(0.58, abs=0.01)
    assert figures[5] == pytest.approx(-53.2, abs=0.1)
    assert len(record["hydrogen_curve"]) == 17
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "exact conditions at 1584 points" in told.err


def test_a_picture_without_matplotlib(monkeypatch, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    real = builtins.__import__

    def without(name: str, *rest):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.delitem(sys.modules, "dqc.commands.check_figure", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["check", "pbe", "--figure", str(tmp_path / "x.png")]) == 2
    assert "dqc-jax[notebooks]" in capsys.readouterr().err


def test_an_unknown_functional(capsys: pytest.CaptureFixture) -> None:
    assert main(["check", "pbee"]) == 2
    assert "unknown functional 'pbee'" in capsys.readouterr().err
