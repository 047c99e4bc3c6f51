"""The command line: light to start, one sentence on bad input, and a status that tells how it ended."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jax
import pytest

import dqc
from dqc.cli import main, parser

H2 = "2\ncharge=0 spin=0\nH 0 0 0\nH 0 0 0.74\n"


@pytest.fixture
def h2(tmp_path: Path) -> str:
    path = tmp_path / "h2.xyz"
    path.write_text(H2)
    return str(path)


def energy(*words: str) -> int:
    return main(["energy", *words, "--basis", "sto-3g", "--xc", "hf"])


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["energy", "--help"],
        ["check", "--help"],
        ["reference", "--help"],
        ["--version"],
        ["energy"],
        ["nonsense"],
    ],
)
def test_parsing_imports_neither_jax_nor_pyscf(words: list[str]) -> None:
    code = (
        "import sys\nfrom dqc.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: status = end.code\n"
        "print(status, [name for name in ('jax', 'pyscf', 'numpy', 'flax') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)
    status = 0 if words[-1].startswith("--") else 2
    assert ran.stdout.splitlines()[-1] == f"{status} []", ran.stderr


def test_every_option_is_explained() -> None:
    commands = parser()._subparsers._group_actions[0].choices  # type: ignore[union-attr]
    for name, command in commands.items():
        for action in command._actions:
            assert action.help, f"dqc {name}: {action.dest}"


def test_energy_prints_iterations_and_a_table(h2: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert energy(h2, "--json", str(tmp_path / "out.json")) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    printed = capsys.readouterr().out
    rows = [line.split() for line in printed.splitlines()]
    iterations = [int(row[0]) for row in rows if row and row[0].isdecimal()]
    assert iterations == list(range(1, record["iterations"] + 1))
    table = {" ".join(row[:-2]): float(row[-2]) for row in rows if row and row[-1] == "Ha"}
    assert table["total energy"] == pytest.approx(record["energy"], abs=1e-9)
    assert {
        name.replace("_", " "): round(value, 10) for name, value in record["energies"].items()
    }.items() <= (table.items())
    assert sum(record["energies"].values()) == pytest.approx(record["energy"], abs=1e-10)
    for word in (
        "HOMO",
        "LUMO",
        "gap",
        "dipole",
        "time, set-up",
        "time, compile",
        "time, SCF",
        "Converged:",
    ):
        assert word in printed
    assert "<S^2>" not in printed
    assert record["converged"] is True
    assert record["dipole_debye"] == pytest.approx([0, 0, 0], abs=1e-6)
    assert set(record["seconds"]) == {"set-up", "compile", "SCF"}


def test_energy_is_that_of_the_library(h2: str, tmp_path: Path) -> None:
    energy(h2, "--json", str(tmp_path / "out.json"))
    xc = dqc.functional("hf")
    solution = dqc.scf(dqc.build(dqc.Molecule.from_xyz(h2), basis="sto-3g", xc=xc), xc)
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["energy"] == float(solution.energy)
    assert record["homo"] == pytest.approx(float(solution.mo_energy[0, 0]), abs=1e-12)


def test_the_functional_may_be_a_file(h2: str, tmp_path: Path) -> None:
    xc, path = dqc.neural("lda,pw_mod", seed=1), tmp_path / "mine.safetensors"
    xc = jax.tree.map(lambda x: x + 0.1, xc)
    dqc.save(xc, path)
    words = ["energy", h2, "--basis", "sto-3g", "--json", str(tmp_path / "out.json"), "--xc"]
    assert main([*words, str(path)]) == 0
    solution = dqc.scf(dqc.build(dqc.Molecule.from_xyz(h2), basis="sto-3g", xc=xc), xc)
    assert json.loads((tmp_path / "out.json").read_text())["energy"] == float(solution.energy)


def test_the_system_is_saved(h2: str, tmp_path: Path) -> None:
    assert energy(h2, "--save", str(tmp_path / "h2.system")) == 0
    assert dqc.load(tmp_path / "h2.system").overlap.shape == (2, 2)


def test_an_unrestricted_run_prints_the_spin(h2: str, capsys: pytest.CaptureFixture) -> None:
    assert energy(h2, "--charge", "1", "--spin", "1") == 0
    assert "<S^2>                0.750000 (pure spin state: 0.75)" in capsys.readouterr().out


def test_a_run_that_does_not_converge_says_so(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "water.xyz").write_text("3\n\nO 0 0 0\nH 0.757 0 0.586\nH -0.757 0 0.586\n")
    assert energy(str(tmp_path / "water.xyz"), "--max-iterations", "2") == 1
    assert "Not converged: 2 iterations" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "words", "sentence"),
    [
        (None, [], "no file"),
        ("2\n\nH 0 0 0\n", [], "line 1 says 2 atoms, but 1 lines follow"),
        ("1\n\nXe2 0 0 0\n", [], "unknown element 'Xe2' (nearest: Xe"),
        (H2, ["--spin", "1"], "spin=1 with charge=0 is impossible for 2 electrons"),
        (H2, ["--xc", "pbee"], "pbe"),
        (H2, ["--xc", "nowhere/mine.safetensors"], "no file nowhere/mine.safetensors"),
        (H2, ["--basis", "def2-svpp"], "def2-svp"),
        (H2, ["--auxbasis", "nonsense"], "nonsense"),
        (H2, ["--grid", "12"], "grid=12"),
        (H2, ["--max-iterations", "0"], "max_iterations=0"),
        (H2, ["--json", "nowhere/out.json"], "cannot write nowhere/out.json: there is no folder"),
        ("1\n\nU 0 0 0\n", ["--basis", "sto-3g"], "U"),
    ],
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture, text: str | None, words: list[str], sentence: str
) -> None:
    path = tmp_path / "molecule.xyz"
    if text is not None:
        path.write_text(text)
    assert main(["energy", str(path), "--basis", "sto-3g", "--xc", "lda,vwn", *words]) == 2
    told = capsys.readouterr().err
    assert sentence in told
    assert told.startswith("dqc: ")
    assert told.count("\n") == 1


def test_nothing_but_the_sentence_reaches_standard_error(h2: str) -> None:
    command = [sys.executable, "-c", "import sys; from dqc.cli import main; sys.exit(main())"]
    ran = subprocess.run(
        [*command, "energy", h2, "--basis", "nonsense"], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("dqc: ")
    assert ran.stderr.count("\n") == 1
    assert "nonsense" in ran.stderr


@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "x"])
def test_steering_numbers_are_positive(word: str, h2: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as end:
        main(["energy", h2, f"--smearing={word}"])
    assert end.value.code == 2
    assert "--smearing" in capsys.readouterr().err


def test_debug_shows_the_error_itself(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        energy(str(tmp_path / "nothing.xyz"), "--debug")


def test_a_system_error_is_named(tmp_path: Path, capsys: pytest.CaptureFixture, h2: str) -> None:
    assert energy(h2, "--json", str(tmp_path)) == 2
    assert f"cannot write {tmp_path}: it is a folder" in capsys.readouterr().err
