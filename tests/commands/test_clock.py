"""Compilation is told apart from computing."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import pytest

from dqc.commands.clock import CompileClock, Timings


@pytest.fixture
def clock() -> CompileClock:
    return CompileClock()


def test_nested_intervals_count_once(clock: CompileClock) -> None:
    clock._intervals = [(1.0, 2.0), (0.0, 3.0), (2.5, 4.0), (6.0, 7.0)]
    assert clock.seconds == 5.0


def test_a_compilation_is_heard_and_a_second_call_is_not(clock: CompileClock) -> None:
    x = jnp.arange(7.0)
    before = clock.seconds
    function = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x + 0.123))
    function(x)
    first = clock.seconds
    assert first > before
    function(x)
    assert clock.seconds == first


def test_phases_leave_compilation_out() -> None:
    timings = Timings()
    with timings.phase("work"):
        began = time.perf_counter()
        jax.jit(lambda x: jnp.tanh(x) * 0.321)(jnp.ones(5)).block_until_ready()
        took = time.perf_counter() - began
    assert timings["compile"] > 0
    assert timings["work"] + timings["compile"] == pytest.approx(took, abs=0.05 + 0.5 * took)
