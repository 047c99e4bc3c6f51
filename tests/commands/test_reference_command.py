"""``dqc reference``: what it writes, that it goes on where it was, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dqc.interop.reference as reference
from dqc.cli import main
from dqc.data import read
from dqc.interop.level import Level

FILES = {
    "hydrogen": "2\ncharge=0 spin=0\nH 0 0 0\nH 0 0 0.74\n",
    "hydroxyl": "2\ncharge=0 spin=1\nO 0 0 0\nH 0 0 0.97\n",
}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(f"{name}.xyz").write_text(text)
    return [f"{name}.xyz" for name in FILES]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The formulas of what is computed, in order."""
    formulas: list[str] = []
    real = reference.reference

    def counting(molecule: Any, *rest: Any) -> Any:
        formulas.append(molecule.formula + "+" * molecule.charge)
        return real(molecule, *rest)

    monkeypatch.setattr(reference, "reference", counting)
    return formulas


def command(files: list[str], *words: str) -> int:
    return main(["reference", *files, "--basis", "sto-3g", "--out", "set.json", *words])


def test_it_writes_a_data_set(files: list[str], capsys: pytest.CaptureFixture) -> None:
    words = ["--density", "hydrogen", "--ionisation", "hydroxyl", "H", "--about", "licence=CC0"]
    assert command(files, *words) == 0
    data = read("set.json")
    assert set(data.molecules) == {"hydrogen", "hydroxyl", "H", "O", "hydroxyl+"}
    E = {name: known.energy for name, known in data.labels.items()}
    values = {r.name: r.value for r in data.reactions}
    assert values["atomization of hydroxyl"] == pytest.approx(E["O"] + E["H"] - E["hydroxyl"])
    assert values["ionisation of hydroxyl"] == pytest.approx(E["hydroxyl+"] - E["hydroxyl"])
    assert values["ionisation of hydroxyl"] == data.labels["hydroxyl"].ionisation
    assert values["ionisation of H"] == pytest.approx(-E["H"])
    assert set(values) == {f"atomization of {x}" for x in ("hydrogen", "hydroxyl")} | {
        f"ionisation of {x}" for x in ("hydroxyl", "H")
    }
    assert [name for name, known in data.labels.items() if known.density] == ["hydrogen"]
    found = reference.reference(data.molecules["hydrogen"], Level(basis=("sto-3g",)), True).labels
    assert E["hydrogen"] == pytest.approx(found.energy, abs=1e-8)
    np.testing.assert_allclose(data.labels["hydrogen"].density.matrix, found.density.matrix, atol=1e-6)
    assert data.about["reference_level"] == "CCSD(T)/sto-3g, frozen core"
    assert data.about["licence"] == "CC0"
    assert data.about["command"].startswith("dqc reference hydrogen.xyz hydroxyl.xyz --basis sto-3g")
    printed = capsys.readouterr().out
    assert "5 molecules and 4 reactions are in set.json; 0 failed." in printed
    rows = {line.split()[0]: line.split() for line in printed.splitlines() if line}
    assert float(rows["hydroxyl"][1]) == pytest.approx(E["hydroxyl"], abs=1e-6)


def test_it_goes_on_where_it_was(
    files: list[str], computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = reference.reference

    def interrupted(molecule: Any, *rest: Any) -> Any:
        if molecule.formula == "HO":
            raise KeyboardInterrupt
        return counting(molecule, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(reference, "reference", interrupted)
        assert command(files) == 130
    assert computed == ["H", "O", "H2"]
    assert not Path("set.json").exists()
    journal = Path("set.jsonl").read_text()
    Path("set.jsonl").write_text(journal + journal[: len(journal) // 4])  # the power failed in a line
    assert command(files) == 0
    assert computed == ["H", "O", "H2", "HO"]
    first = Path("set.json").read_text()
    assert command(files) == 0
    assert len(computed) == 4
    assert Path("set.json").read_text() == first
    assert [json.loads(line)["name"] for line in Path("set.jsonl").read_text().splitlines()] == [
        *("H", "O", "hydrogen", "hydroxyl")
    ]


def test_what_has_changed_is_computed_again(files: list[str], computed: list[str]) -> None:
    assert command(files, "--no-atomization") == 0
    assert command(files, "--no-atomization", "--density", "hydrogen") == 0
    assert computed == ["H2", "HO", "H2"]  # without its density before
    assert command(files, "--no-atomization", "--method", "ccsd") == 0
    Path("hydrogen.xyz").write_text(FILES["hydrogen"].replace("0.74", "0.75"))
    assert command(files, "--no-atomization", "--method", "ccsd") == 0
    assert computed[3:] == ["H2", "HO", "H2"]
    assert command(files, "--no-atomization", "--no-resume") == 0
    assert len(computed) == 8


def test_failures_are_named_and_counted(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(reference, "CYCLES", 3)
    assert command(files, "--ionisation", "hydroxyl", "H") == 1
    told = capsys.readouterr()
    assert "dqc: hydroxyl is left out: CCSD did not converge in 3 iterations" in told.err
    assert "dqc: hydroxyl+ is left out: hydroxyl failed" in told.err
    data = read("set.json")
    assert "hydroxyl" not in data.molecules
    assert {r.name for r in data.reactions} >= {"ionisation of H"}
    assert not any("hydroxyl" in r.name for r in data.reactions)
    assert f"{len(data.molecules)} molecules and" in told.out


def test_a_data_set_is_labelled(files: list[str]) -> None:
    systems = {"H2": {"charge": 0, "mult": 1, "elements": ["H", "H"], "coords": [[0, 0, 0], [0, 0, 0.74]]}}
    systems["far"] = systems["H2"] | {"coords": [[0, 0, 0], [0, 0, 1.5]]}
    reactions = [{"id": "stretching", "systems": ["far", "H2"], "coeffs": [1, -1], "value": 0.0}]
    units = {"coordinates": "angstrom", "value": "hartree"}
    record = {"format": "xcref-1", "units": units, "systems": systems, "reactions": reactions}
    Path("given.json").write_text(json.dumps(record))
    assert command(["given.json", "hydroxyl.xyz"], "--no-atomization") == 0
    data = read("set.json")
    (reaction,) = data.reactions
    E = {name: known.energy for name, known in data.labels.items()}
    assert set(E) == {"H2", "far", "hydroxyl"}
    assert reaction.value == pytest.approx(E["far"] - E["H2"])
    assert reaction.value > 0.05


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--density", "hydroxil"], "--density names an unknown molecule 'hydroxil' (nearest: hydroxyl"),
        (["--basis", "sto-4gg"], "Unknown basis 'sto-4gg'"),
        (["--basis", "sto-3g", "6-31g"], "no extrapolation from sto-3g to 6-31g"),
        (["--out", "set.txt"], "a name that ends in .json is expected"),
        (["--out", "nowhere/set.json"], "there is no folder"),
        (["--about", "licence"], "--about 'licence' should be KEY=TEXT"),
    ],
)
def test_bad_input_is_one_sentence(
    files: list[str], computed: list[str], capsys: pytest.CaptureFixture, words: list[str], sentence: str
) -> None:
    assert command(files, *words) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.count("\n") == 1
    assert not computed


def test_doubtful_labels_are_named(files: list[str], capsys: pytest.CaptureFixture) -> None:
    Path("hydroxyl.xyz").write_text(FILES["hydroxyl"].replace("0.97", "2.2"))
    assert command(files) == 0
    told = capsys.readouterr().err
    assert "dqc: hydroxyl is doubtful: T1 is" in told
    assert set(read("set.json").about["doubtful"]) == {"hydroxyl"}


def test_a_damaged_journal_is_refused(files: list[str], capsys: pytest.CaptureFixture) -> None:
    Path("set.jsonl").write_text('{"key": "a", \n')
    assert command(files) == 2
    assert "set.jsonl is damaged" in capsys.readouterr().err
    assert command(files, "--no-resume", "--no-atomization") == 0


def test_two_molecules_of_one_name_are_refused(files: list[str], capsys: pytest.CaptureFixture) -> None:
    assert command([*files, files[0]]) == 2
    assert "there are two molecules 'hydrogen'" in capsys.readouterr().err
