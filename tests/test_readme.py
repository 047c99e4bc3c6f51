"""What the README says to type does work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dqc.training import config

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_block_runs(code: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(compile(code, "README.md", "exec"), names)
    assert "sol" not in names or names["sol"].converged.all()
    assert capsys.readouterr().out


def first_command() -> list[str]:
    setup, program = blocks("sh")[0].strip().split(" && ")
    assert setup == "pip install uv"
    uv, run, *words = shlex.split(program)
    assert (uv, run) == ("uv", "run")
    return words


def test_the_first_command_is_a_training() -> None:
    """Of which tests/commands has a small one."""
    script, command, path = first_command()
    assert Path(sys.executable).with_name(script).is_file()
    assert command == "train"
    chosen = config.read(ROOT / path)
    assert set(chosen.parts) == {"train", "validation", "test"}
    assert [stage.kind for stage in chosen.stages] == ["post-scf", "in-scf"]


@pytest.mark.slow
def test_the_first_command_trains(tmp_path: Path) -> None:
    script, *words = first_command()
    program = Path(sys.executable).with_name(script)
    words += ["--directory", str(tmp_path)]
    ran = subprocess.run([str(program), *words], cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert ran.returncode == 0, ran.stderr
    assert "not converged" not in ran.stdout
    assert "held out" in ran.stdout
    assert (tmp_path / "training.png").is_file()
    after, before = (float(x) for x in re.findall(r"mean absolute error.* (\S+) +(\S+)", ran.stdout)[1])
    assert after < before  # of molecules that it has not seen


def test_the_ci_script_runs_the_same_test_command() -> None:
    assert blocks("sh")[1].strip() == "uv run pytest"
    assert "uv run pytest" in (ROOT / ".ci" / "run").read_text().splitlines()


def test_every_file_named_is_there() -> None:
    for name in re.findall(r"(?:`|\()([\w./-]+(?:/|\.md|\.xyz))(?:`|\))", TEXT):
        if "/" in name or name.endswith(".md"):
            assert (ROOT / name).exists(), name


def test_every_option_named_is_there() -> None:
    script = [sys.executable, "-c", "from dqc.cli import main; import sys; main(sys.argv[1:])"]
    told = ""
    for command in ("energy", "optimize", "frequencies", "check", "train", "evaluate", "reference"):
        told += subprocess.run(
            [*script, command, "--help"], capture_output=True, text=True, timeout=60
        ).stdout
    for benchmark in ("energy", "functional", "gradient", "training"):
        script = [sys.executable, str(ROOT / "benchmarks" / f"{benchmark}.py")]
        told += subprocess.run([*script, "--help"], capture_output=True, text=True, timeout=60).stdout
    for option in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", TEXT)) - {"--help"}:
        assert option in told, option
