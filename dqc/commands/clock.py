"""Where the wall time goes: computing, or compiling."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import jax


class CompileClock:
    """Adds up the wall time that this process spends tracing and compiling, from its creation on.

    JAX reports each trace, lowering and compilation when it ends, nested ones too: the time spent is
    that covered by the union of their intervals.
    """

    def __init__(self) -> None:
        self._intervals: list[tuple[float, float]] = []
        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith("/jax/core/compile/"):
            now = time.perf_counter()
            self._intervals.append((now - duration_secs, now))

    @property
    def seconds(self) -> float:
        """Wall time covered so far."""
        covered, end = 0.0, float("-inf")
        for start, stop in sorted(self._intervals):
            covered += max(0.0, stop - max(start, end))
            end = max(end, stop)
        return covered


class Timings(dict[str, float]):
    """Seconds by phase, each without the compilation inside it, which is counted under "compile"."""

    def __init__(self) -> None:
        super().__init__()
        self._clock = CompileClock()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time what is inside, to be entered one after the other."""
        compiled, began = self._clock.seconds, time.perf_counter()
        yield
        compiling = self._clock.seconds - compiled
        self[name] = time.perf_counter() - began - compiling
        self["compile"] = self.get("compile", 0.0) + compiling
