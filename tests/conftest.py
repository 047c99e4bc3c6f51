"""Set-up of every test process: threads, the compilation cache, and shapes enforced at run time."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if os.environ.get("PYTEST_XDIST_WORKER"):
    # Workers share the cores: each computes with one thread. Read when JAX and the BLAS are first imported.
    for variable in ("NPROC", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

# Most of what small tests wait for is LLVM: programs are compiled for quick compilation, in children as well.
# `XLA_FLAGS= pytest` compiles them as everywhere else.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false "
    "--xla_cpu_parallel_codegen_split_count=1",
)

import jaxtyping

# From here on, a signature of dqc that states a shape or a type is a check: beartype reads it.
jaxtyping.install_import_hook("dqc", "beartype.beartype")

import jax  # noqa: E402  (after the threads)

import dqc.cache  # noqa: E402  (after the hook)
import dqc.types  # noqa: E402  (64-bit mode)

dqc.cache.enable()
gc.set_threshold(20_000, 20, 20)  # tracing makes many objects, and hardly any garbage to look for

MOST_MAPS = 40_000


@pytest.fixture(autouse=True)
def room_for_programs() -> Iterator[None]:
    """Compiled programs are given up before they are too many: each is mapped into memory in pieces, and a
    process may have some 65 thousand of those."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()


@pytest.fixture
def unchecked_types() -> Iterator[None]:
    """Run-time type checks off, to see what a user without them is told about an argument of a wrong type."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
