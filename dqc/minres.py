"""The minimal residual method for symmetric linear equations, definite or not.

Paige, Saunders (1975), doi:10.1137/0712047: a Lanczos recurrence whose tridiagonal matrix is brought to
triangular form by plane rotations as it grows. Its eigenvalues, the Ritz values, come for free.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

INNER_TOLERANCE = 3e-3, 0.1  # of the equations with the rough operator, at least and at most
INNER_ITERATIONS = 40
WORTHWHILE = 0.2  # a correction must bring the residual below this share


class Outcome(NamedTuple):
    """A solution, and how it was reached."""

    x: Float[Array, "..."]
    iterations: Int[Array, ""]
    residual: Float[Array, ""]  # |b - A x| / |b|
    smallest: Float[Array, ""]  # the Ritz value of least magnitude; inf where no iteration ran
    converged: Bool[Array, ""]


class _State(NamedTuple):
    iteration: Array
    x: Array
    v_old: Array
    v: Array
    beta: Array  # norm that scaled v
    w_old: Array
    w: Array
    rotation: Array  # (c, s) of the last plane rotation
    rotation_old: Array
    eta: Array  # what is left of |b| after the rotations
    alphas: Array
    betas: Array


def refined(
    matvec: Callable[[Array], Array],
    rough: Callable[[Array], Array],
    b: Float[Array, "..."],
    tolerance: float | Array,
    max_iterations: int,
) -> Outcome:
    """The same as :func:`minres`, where a symmetric ``rough`` operator close to A is cheaper to apply.

    x <- x + R^(-1) (b - A x) with R rough, while that pays, and the rest by minimal residuals of A.
    ``iterations`` counts the applications of A.
    """
    size = lambda v: jnp.linalg.norm(v.reshape(-1))  # noqa: E731
    norm = size(b)

    def pays(s: tuple) -> Array:
        _, _, now, before, rounds, _ = s
        return (now > tolerance * norm) & (now < WORTHWHILE * before) & (rounds < max_iterations)

    def correct(s: tuple) -> tuple:
        x, r, now, _, rounds, smallest = s
        enough = 0.3 * tolerance * norm / now  # where one more correction is to reach the end
        step = minres(rough, r, jnp.clip(enough, *INNER_TOLERANCE), INNER_ITERATIONS)
        new = x + step.x
        left = b - matvec(new)
        # A correction that makes things worse is not taken, and is the last one.
        good = size(left) < now
        x, r, after = (jnp.where(good, u, v) for u, v in ((new, x), (left, r), (size(left), now)))
        return x, r, after, now, rounds + 1, _least(step.smallest, smallest)

    infinite, zero = jnp.asarray(jnp.inf, b.dtype), jnp.zeros((), int)
    x, r, now, _, rounds, smallest = jax.lax.while_loop(
        pays, correct, (jnp.zeros_like(b), b, norm, infinite, zero, infinite)
    )
    share = now / jnp.where(norm > 0, norm, 1.0)
    rest = minres(matvec, r, tolerance / jnp.maximum(share, tolerance), max_iterations)
    return Outcome(
        x=x + rest.x,
        iterations=rounds + rest.iterations,
        residual=share * rest.residual,
        smallest=_least(rest.smallest, smallest),
        converged=rest.converged,
    )


def minres(
    matvec: Callable[[Array], Array], b: Float[Array, "..."], tolerance: float | Array, max_iterations: int
) -> Outcome:
    """Solve A x = b for a symmetric A, an array of any shape being a vector, until |b - A x| < tolerance |b|.

    For b = 0 the answer is 0, after no iteration. A system that is singular but consistent has its
    solution of least norm.
    """
    norm = jnp.linalg.norm(b.reshape(-1))
    scale = jnp.where(norm > 0, norm, 1.0)
    zero, one = jnp.zeros((), b.dtype), jnp.ones((), b.dtype)
    nothing, memory = jnp.zeros_like(b), jnp.zeros(max_iterations, b.dtype)
    start = _State(
        iteration=jnp.zeros((), int),
        x=nothing,
        v_old=nothing,
        v=b / scale,
        beta=zero,
        w_old=nothing,
        w=nothing,
        rotation=jnp.stack([one, zero]),
        rotation_old=jnp.stack([one, zero]),
        eta=norm / scale,
        alphas=memory,
        betas=memory,
    )

    def unfinished(s: _State) -> Array:
        # Written so that a NaN ends the iterations.
        return (jnp.abs(s.eta) > tolerance) & (s.iteration < max_iterations)

    end = jax.lax.while_loop(unfinished, lambda s: _advance(matvec, s), start)
    return Outcome(
        x=scale * end.x,
        iterations=end.iteration,
        residual=jnp.abs(end.eta),
        smallest=_smallest_ritz(end),
        converged=jnp.abs(end.eta) <= tolerance,
    )


def _least(a: Array, b: Array) -> Array:
    return jnp.where(jnp.abs(a) < jnp.abs(b), a, b)


def _advance(matvec: Callable[[Array], Array], s: _State) -> _State:
    p = matvec(s.v) - s.beta * s.v_old
    alpha = jnp.vdot(s.v, p)
    p = p - alpha * s.v
    beta = jnp.linalg.norm(p.reshape(-1))
    (c, sn), (c_old, sn_old) = s.rotation, s.rotation_old
    # The new column of the tridiagonal matrix under the last two rotations, then a third.
    epsilon = sn_old * s.beta
    delta = sn * alpha + c * c_old * s.beta
    gamma_bar = c * alpha - sn * c_old * s.beta
    gamma = jnp.sqrt(gamma_bar**2 + beta**2)
    safe = jnp.where(gamma > 0, gamma, 1.0)
    c_new, sn_new = gamma_bar / safe, beta / safe
    w = (s.v - epsilon * s.w_old - delta * s.w) / safe
    return _State(
        iteration=s.iteration + 1,
        x=s.x + c_new * s.eta * w,
        v_old=s.v,
        v=p / jnp.where(beta > 0, beta, 1.0),
        beta=beta,
        w_old=s.w,
        w=w,
        rotation=jnp.stack([c_new, sn_new]),
        rotation_old=s.rotation,
        eta=-sn_new * s.eta,
        alphas=s.alphas.at[s.iteration].set(alpha),
        betas=s.betas.at[s.iteration].set(beta),
    )


def _smallest_ritz(s: _State) -> Array:
    """The eigenvalue of least magnitude of the tridiagonal matrix built so far."""
    used = jnp.arange(s.alphas.shape[0]) < s.iteration
    far = 2.0 * (jnp.abs(s.alphas) + jnp.abs(s.betas)).max() + 1.0
    diagonal = jnp.where(used, s.alphas, far)
    beside = jnp.where(used[1:], s.betas[:-1], 0.0)
    matrix = jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
    values = jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(matrix), matrix, 0.0))
    smallest = values[jnp.argmin(jnp.abs(values))]
    return jnp.where(s.iteration > 0, smallest, jnp.inf)
