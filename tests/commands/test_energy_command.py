"""What ``dqc energy`` adds to the library: live printing, driven by a step that is compiled once."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import jax
import pytest

import dqc
from dqc.commands.energy import _printed
from dqc.scf import iterate
from dqc.solution import Solution


def state(iteration: int, energy: float, **flags: int) -> Any:
    flags = {"waited": 0, "direct": False} | flags
    return SimpleNamespace(iteration=iteration, energies=SimpleNamespace(total=energy), residual=0.5, **flags)


@pytest.mark.usefixtures("unchecked_types")
def test_each_iteration_is_printed_before_the_next_begins(capsys: pytest.CaptureFixture) -> None:
    solution = Solution(*[None] * len(Solution.__dataclass_fields__))  # type: ignore[arg-type]

    def steps() -> Iterator[Any]:
        yield state(1, -1.0, waited=1)
        assert capsys.readouterr().out.splitlines()[-1].split() == [
            "1",
            "-1.0000000000",
            "5.00e-01",
            "coarse",
            "grid",
        ]
        yield state(2, -1.25, direct=True)
        assert capsys.readouterr().out.split() == ["2", "-1.2500000000", "-2.50e-01", "5.00e-01", "direct"]
        yield solution

    assert _printed(steps()) is solution


def test_later_iterations_compile_nothing() -> None:
    xc = dqc.functional("hf")
    steps = iterate(dqc.build(dqc.Molecule.from_string("He 0 0 0; H 0 0 0.8", charge=1), "6-31g", xc=xc), xc)
    next(steps)
    compiled: list[str] = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, _, **__: compiled.append(event))
    next(steps)
    assert [event for event in compiled if "compile" in event] == []
