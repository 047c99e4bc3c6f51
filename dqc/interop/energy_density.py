"""A functional's energy density and its derivatives at points, in the form that PySCF's integrals take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dqc.xc.features import Features
from dqc.xc.functional import Functional
from dqc.xc.variables import TAU_UNIFORM_SPIN, floor

HIGHEST_ORDER = 3
# Points of one evaluation. There is one size, so that each order compiles once for restricted and once
# for unrestricted densities.
CHUNK = 4096
_ROWS = {"none": 1, "lda": 1, "gga": 4, "mgga": 5}


def energy_density(xc: Functional, rho: Any, order: int, spin: int | None) -> list[Any]:
    """``[exc, vxc, fxc, kxc]`` as of PySCF's ``eval_xc_eff``, those above ``order`` being None.

    ``rho`` holds density, gradient and, as its last row, tau: (n, points), or (2, n, points) for
    ``spin=1``; ``spin=None`` goes by its shape, as PySCF does. ``exc`` is the energy per electron. The
    others are derivatives of the energy per volume by the rows of ``rho``, with one axis (n), or two
    (2, n), for each order. They are finite everywhere, and zero where there is no density.
    """
    if not 0 <= order <= HIGHEST_ORDER:
        raise NotImplementedError(f"Derivatives exist to order {HIGHEST_ORDER}, not {order}.")
    rho = np.asarray(rho, dtype=float)
    polarised = bool(spin) if spin is not None else rho.ndim >= 2 and rho.shape[0] == 2
    x = _rows(rho, xc.needs.rung, polarised)
    e, *slopes = _in_chunks(xc, order, x)
    n = x[:, 0].sum(0)
    exc = np.divide(e, n, out=np.zeros_like(e), where=n != 0.0)
    if not polarised:
        slopes = [d.reshape(*d.shape[1:-1:2], d.shape[-1]) for d in slopes]
    return [exc, *slopes, *[None] * (HIGHEST_ORDER - order)]


def _rows(rho: np.ndarray, rung: str, polarised: bool) -> np.ndarray:
    """(spin, rows, points), of the rows that the rung reads; PySCF's tau may follow a Laplacian."""
    if rho.ndim == 1 + polarised:
        rho = rho[..., None, :]
    rho = rho if polarised else rho[None]
    rows = [*range(_ROWS[rung] - 1), -1] if rung == "mgga" else [*range(_ROWS[rung])]
    return rho[:, rows]


def _in_chunks(xc: Functional, order: int, x: np.ndarray) -> list[np.ndarray]:
    """All orders, chunk by chunk of the points; the last chunk is filled up with a density of one."""
    spins, rows, points = x.shape
    out = [np.zeros((*(spins, rows) * k, points)) for k in range(order + 1)]
    if xc.needs.rung == "none":
        return out
    for start in range(0, points, CHUNK):
        stop = min(start + CHUNK, points)
        block = np.ones((spins, rows, CHUNK))
        block[..., : stop - start] = x[..., start:stop]
        for whole, part in zip(out, _derivatives(xc, order, block), strict=True):
            whole[..., start:stop] = np.asarray(part)[..., : stop - start]
    return out


@partial(jax.jit, static_argnums=1)
def _derivatives(xc: Functional, order: int, x: Array) -> list[Array]:
    """The energy per volume and its derivatives to ``order``, each with a pair of axes (spin, row) more."""

    def slope(x: Array) -> tuple[Array, Array]:
        e, pull = jax.vjp(partial(_energy, xc), x)
        return e, pull(jnp.ones_like(e))[0]

    if order == 0:
        return [_energy(xc, x)]
    functions: list[Callable] = [lambda x: slope(x)[1]]
    for _ in range(order - 1):
        functions.append(_along_rows(functions[-1]))
    return [slope(x)[0], *(function(x) for function in functions)]


def _along_rows(function: Callable) -> Callable:
    """The derivatives of a function of each point by each row, as two leading axes."""

    def derivative(x: Array) -> Array:
        directions = jnp.eye(x.shape[0] * x.shape[1], dtype=x.dtype).reshape(-1, *x.shape[:2], 1)

        def along(direction: Array) -> Array:
            return jax.jvp(function, (x,), (jnp.broadcast_to(direction, x.shape),))[1]

        slopes = jax.vmap(along)(directions)
        return slopes.reshape(*x.shape[:2], *slopes.shape[1:])

    return derivative


def _energy(xc: Functional, x: Array) -> Array:
    """The energy per volume; an empty spin channel is a trace of uniform gas, an empty point has none."""
    closed = x.shape[0] == 1
    x = jnp.broadcast_to(0.5 * x, (2, *x.shape[1:])) if closed else x
    least = floor(x.dtype)
    live = x[:, :1] > least
    trace = jnp.array([least, 0.0, 0.0, 0.0, TAU_UNIFORM_SPIN * least ** (5 / 3)], x.dtype)[
        : x.shape[1], None
    ]
    instead = jnp.where(live.any(0), trace, 1.0)
    x = x + jax.lax.stop_gradient(jnp.where(live, 0.0, instead - x))
    grad = x[:, 1:4] if x.shape[1] > 1 else None
    tau = x[:, 4] if x.shape[1] > 4 else None
    e = xc(Features(rho=x[:, 0], grad=grad, tau=tau, closed_shell=closed))
    return jnp.where(live.any(0)[0], e, 0.0)
