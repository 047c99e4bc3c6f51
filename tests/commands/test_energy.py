"""The pieces of ``dqc energy`` that need no molecule."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from dqc.commands.energy import _printed
from dqc.solution import Solution


def state(iteration: int, energy: float, **flags: bool) -> Any:
    flags = {"coarse": False, "direct": False} | flags
    return SimpleNamespace(iteration=iteration, energies=SimpleNamespace(total=energy), residual=0.5, **flags)


@pytest.mark.usefixtures("unchecked_types")
def test_each_iteration_is_printed_before_the_next_begins(capsys: pytest.CaptureFixture) -> None:
    solution = Solution(*[None] * 10)  # type: ignore[arg-type]

    def steps() -> Iterator[Any]:
        yield state(1, -1.0, coarse=True)
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
