"""A functional's energy density and its derivatives at points, in the form that PySCF's integrals take."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import chain, combinations_with_replacement, permutations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from dqc.types import on_device
from dqc.xc.features import Features
from dqc.xc.functional import Functional
from dqc.xc.variables import TAU_UNIFORM_SPIN, floor

HIGHEST_ORDER = 3
# Points of one evaluation. There is one size, so that each order compiles once for restricted and once
# for unrestricted densities. Larger ones leave the processor's cache.
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
        here = slice(start, min(start + CHUNK, points))
        block = np.ones((spins, rows, CHUNK))
        block[..., : here.stop - start] = x[..., here]
        _evaluate(xc, on_device(block), [whole[..., here] for whole in out])
    return out


def _evaluate(xc: Functional, x: Array, out: list[np.ndarray]) -> None:
    """One chunk of every order; of equal mixed derivatives one is evaluated.

    Directions are taken one after another: XLA on the CPU evaluates a functional anew for each of a
    batch of them, and more slowly.
    """
    spins, rows, _ = x.shape
    for k, whole in enumerate(out):
        for indices in combinations_with_replacement(np.ndindex(spins, rows), max(k - 1, 0)):
            directions = np.zeros((len(indices), spins, rows, 1))
            for direction, index in zip(directions, indices, strict=True):
                direction[index] = 1.0
            part = _energy(xc, x) if k == 0 else _slope(xc, x, tuple(directions))
            for order in set(permutations(indices)):
                whole[tuple(chain(*order))] = np.asarray(part)[..., : whole.shape[-1]]


@jax.jit
def _energy(xc: Functional, x: Array) -> Array:
    """The energy per volume."""
    live = _live(x)
    return jnp.where(live.any(0)[0], _call(xc, x.shape[0] == 1, _split(_filled(x, live))), 0.0)


@jax.jit
def _slope(xc: Functional, x: Array, directions: tuple[Array, ...]) -> Array:
    """The derivative by every row of the energy per volume, differentiated once more in each direction."""
    live = _live(x)

    def function(at: Parts) -> Array:
        e, pull = jax.vjp(partial(_call, xc, x.shape[0] == 1), at)
        return _join(pull(jnp.ones_like(e))[0], x.shape[0])

    for direction in directions:
        function = partial(_differentiated, function, _split(jnp.broadcast_to(direction, x.shape)))
    return jnp.where(live.any(0), function(_split(_filled(x, live))), 0.0)


def energy_with_exchange(xc: Functional, x: np.ndarray, exchange: np.ndarray) -> tuple[np.ndarray, ...]:
    """The energy per volume of at most ``CHUNK`` points and its derivatives by the rows of ``x``, (spin,
    rows, points), and by the exact-exchange energy density, (spin, points); one spin is the sum of two."""
    points = x.shape[-1]
    block, row = np.ones((*x.shape[:-1], CHUNK)), np.zeros((len(exchange), CHUNK))
    block[..., :points], row[:, :points] = x, exchange
    ready = on_device((block, row))
    return tuple(np.asarray(part)[..., :points] for part in _with_exchange(xc, *ready))


@jax.jit
def _with_exchange(xc: Functional, x: Array, exchange: Array) -> tuple[Array, Array, Array]:
    live = _live(x)
    closed, somewhere = x.shape[0] == 1, live.any(0)

    def energy(x: Array, exchange: Array) -> Array:
        both = jnp.broadcast_to(0.5 * exchange, (2, exchange.shape[1])) if closed else exchange
        return xc(Features(*_split(x), both, closed_shell=closed))  # type: ignore[arg-type]

    e, pull = jax.vjp(energy, _filled(x, live), jnp.where(live[:, 0], exchange, 0.0))
    v, v_x = pull(jnp.ones_like(e))
    return jnp.where(somewhere[0], e, 0.0), jnp.where(somewhere, v, 0.0), jnp.where(somewhere, v_x, 0.0)


Parts = tuple[Array, Array | None, Array | None]


def _differentiated(function: Callable[[Parts], Array], direction: Parts, at: Parts) -> Array:
    return jax.jvp(function, (at,), (direction,))[1]


def _call(xc: Functional, closed: bool, at: Parts) -> Array:
    rho, grad, tau = at
    return xc(Features(rho, grad, tau, closed_shell=closed))  # type: ignore[arg-type]


def _live(x: Array) -> Array:
    return x[:, :1] > floor(x.dtype)


def _filled(x: Array, live: Array) -> Array:
    """The same where there is density; an empty spin channel is a trace of uniform gas, and an empty
    point, whose results are discarded, a density of one."""
    least = floor(x.dtype)
    trace = jnp.array([least, 0.0, 0.0, 0.0, TAU_UNIFORM_SPIN * least ** (5 / 3)], x.dtype)
    return jnp.where(live, x, jnp.where(live.any(0), trace[: x.shape[1], None], 1.0))


def _split(x: Array) -> Parts:
    """Density, gradient and tau of two spins."""
    x = jnp.broadcast_to(0.5 * x, (2, *x.shape[1:])) if x.shape[0] == 1 else x
    return x[:, 0], x[:, 1:4] if x.shape[1] > 1 else None, x[:, 4] if x.shape[1] > 4 else None


def _join(slopes: Parts, spins: int) -> Array:
    """Derivatives by the parts as one array; by the sum of equal spins the mean of those by either of them,
    since a functional may read but one."""
    rho, grad, tau = slopes
    rows = [rho[:, None], *([] if grad is None else [grad]), *([] if tau is None else [tau[:, None]])]
    both = jnp.concatenate(rows, 1)
    return both if spins == 2 else both.mean(0, keepdims=True)
