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

INNER_TOLERANCE = 1e-3, 0.1  # of the equations with the rough operator, at least and at most
INNER_ITERATIONS = 40
WORTHWHILE = 0.2  # a correction must bring the residual below this share
CAUTION = 3.0  # by which the two operators may differ more than they were seen to


class Outcome(NamedTuple):
    """A solution, and how it was reached."""

    x: Float[Array, "..."]
    iterations: Int[Array, ""]
    residual: Float[Array, ""]  # |b - A x| / |b|
    left: Float[Array, "..."]  # b - A x, or what stands for it where it is known well enough
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
    left: Array  # b - A x over |b|, of the norm |eta|
    alphas: Array
    betas: Array


class _Refinement(NamedTuple):
    x: Array
    residual: Array  # b - A x
    size: Array  # its norm
    before: Array  # the norm before the last correction
    apart: Array  # |(A - R) d| / |d|, the largest of the corrections d so far
    rounds: Array
    smallest: Array
    rest: _State  # minimal residuals of A, for this residual


def refined(
    matvec: Callable[[Array], Array],
    rough: Callable[[Array], Array],
    b: Float[Array, "..."],
    tolerance: float | Array,
    max_iterations: int,
) -> Outcome:
    """The same as :func:`minres`, where a symmetric ``rough`` operator close to A is cheaper to apply.

    x <- x + R^(-1) (b - A x) with R rough, while that pays, and the rest by minimal residuals of A.
    ``iterations`` counts the corrections and steps. Of the last correction d, A d is not computed where what
    is left is known well enough, |r - A d| <= |r - R d| + |A - R| |d| with |A - R| from the corrections
    before; ``residual`` is then this bound.
    """
    norm = _size(b)
    safe = jnp.where(norm > 0, norm, 1.0)

    def pays(s: _Refinement) -> Array:
        return (s.size > tolerance * norm) & (s.size < WORTHWHILE * s.before) & (s.rounds < max_iterations)

    def enough(s: _Refinement) -> Array:
        """The tolerance of the rest, relative to its right-hand side."""
        return tolerance / jnp.maximum(s.size / safe, tolerance)

    def step(s: _Refinement) -> _Refinement:
        """A correction, or a step of minimal residuals.

        Both apply A, in one place: it is most of the program, and of its compilation.
        """
        correcting = pays(s)
        accuracy = jnp.clip(0.3 * tolerance * norm / s.size, *INNER_TOLERANCE)  # one more to reach the end
        change = minres(rough, jnp.where(correcting, s.residual, 0.0), accuracy, INNER_ITERATIONS)
        inner, length = change.residual * s.size, _size(change.x)
        bound = inner + CAUTION * s.apart * length
        known = correcting & (s.rounds > 0) & (bound <= tolerance * norm)
        product = jax.lax.cond(known, jnp.zeros_like, matvec, jnp.where(correcting, change.x, s.rest.v))
        left = jnp.where(known, change.left, s.residual - product)
        size = jnp.where(known, bound, _size(left))
        # A correction that makes things worse is not taken, and is the last one.
        x, r, after = (
            jnp.where(size < s.size, u, v)
            for u, v in ((s.x + change.x, s.x), (left, s.residual), (size, s.size))
        )
        smallest = _least(change.smallest, s.smallest)
        apart = jnp.maximum(s.apart, _size(change.left - left) / length)
        corrected = _Refinement(x, r, after, s.size, apart, s.rounds + 1, smallest, _start(r, max_iterations))
        advanced = s._replace(rest=_advance(product, s.rest))
        return jax.tree.map(lambda u, v: jnp.where(correcting, u, v), corrected, advanced)

    infinite, zero = jnp.asarray(jnp.inf, b.dtype), jnp.zeros((), int)
    start = _Refinement(
        jnp.zeros_like(b), b, norm, infinite, jnp.zeros_like(norm), zero, infinite, _start(b, max_iterations)
    )
    end = jax.lax.while_loop(lambda s: pays(s) | _unfinished(s.rest, enough(s), max_iterations), step, start)
    rest = _outcome(end.residual, end.rest, enough(end))
    return Outcome(
        x=end.x + rest.x,
        iterations=end.rounds + rest.iterations,
        residual=end.size / safe * rest.residual,
        left=rest.left,
        smallest=_least(rest.smallest, end.smallest),
        converged=rest.converged,
    )


def minres(
    matvec: Callable[[Array], Array], b: Float[Array, "..."], tolerance: float | Array, max_iterations: int
) -> Outcome:
    """Solve A x = b for a symmetric A, an array of any shape being a vector, until |b - A x| < tolerance |b|.

    For b = 0 the answer is 0, after no iteration. A system that is singular but consistent has its
    solution of least norm.
    """
    end = jax.lax.while_loop(
        lambda s: _unfinished(s, tolerance, max_iterations),
        lambda s: _advance(matvec(s.v), s),
        _start(b, max_iterations),
    )
    return _outcome(b, end, tolerance)


def _start(b: Array, max_iterations: int) -> _State:
    norm = _size(b)
    scale = jnp.where(norm > 0, norm, 1.0)
    zero, one = jnp.zeros((), b.dtype), jnp.ones((), b.dtype)
    nothing, memory = jnp.zeros_like(b), jnp.zeros(max_iterations, b.dtype)
    return _State(
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
        left=b / scale,
        alphas=memory,
        betas=memory,
    )


def _unfinished(s: _State, tolerance: float | Array, max_iterations: int) -> Array:
    # Written so that a NaN ends the iterations.
    return (jnp.abs(s.eta) > tolerance) & (s.iteration < max_iterations)


def _outcome(b: Array, end: _State, tolerance: float | Array) -> Outcome:
    return Outcome(
        x=_size(b) * end.x,
        iterations=end.iteration,
        residual=jnp.abs(end.eta),
        left=_size(b) * end.left,
        smallest=_smallest_ritz(end),
        converged=jnp.abs(end.eta) <= tolerance,
    )


def _size(v: Array) -> Array:
    return jnp.linalg.norm(v.reshape(-1))


def _least(a: Array, b: Array) -> Array:
    return jnp.where(jnp.abs(a) < jnp.abs(b), a, b)


def _advance(product: Array, s: _State) -> _State:
    """The next state, from A v."""
    p = product - s.beta * s.v_old
    alpha = jnp.vdot(s.v, p)
    p = p - alpha * s.v
    beta = _size(p)
    (c, sn), (c_old, sn_old) = s.rotation, s.rotation_old
    # The new column of the tridiagonal matrix under the last two rotations, then a third.
    epsilon = sn_old * s.beta
    delta = sn * alpha + c * c_old * s.beta
    gamma_bar = c * alpha - sn * c_old * s.beta
    gamma = jnp.sqrt(gamma_bar**2 + beta**2)
    safe = jnp.where(gamma > 0, gamma, 1.0)
    c_new, sn_new = gamma_bar / safe, beta / safe
    w = (s.v - epsilon * s.w_old - delta * s.w) / safe
    eta, v = -sn_new * s.eta, p / jnp.where(beta > 0, beta, 1.0)
    return _State(
        iteration=s.iteration + 1,
        x=s.x + c_new * s.eta * w,
        v_old=s.v,
        v=v,
        beta=beta,
        w_old=s.w,
        w=w,
        rotation=jnp.stack([c_new, sn_new]),
        rotation_old=s.rotation,
        eta=eta,
        left=sn_new**2 * s.left + c_new * eta * v,
        alphas=s.alphas.at[s.iteration].set(alpha),
        betas=s.betas.at[s.iteration].set(beta),
    )


def _smallest_ritz(s: _State) -> Array:
    """The eigenvalue of least magnitude of the tridiagonal matrix built so far; inf before the first."""
    steps = jnp.arange(s.alphas.shape[0])

    def smallest() -> Array:
        far = 2.0 * (jnp.abs(s.alphas) + jnp.abs(s.betas)).max() + 1.0
        diagonal = jnp.where(steps < s.iteration, s.alphas, far)
        beside = jnp.where(steps[1:] < s.iteration, s.betas[:-1], 0.0)
        matrix = jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1)
        values = jnp.linalg.eigvalsh(jnp.where(jnp.isfinite(matrix), matrix, 0.0))
        return values[jnp.argmin(jnp.abs(values))]

    # Of all max_iterations rows, whatever was built: worth a branch.
    return jax.lax.cond(s.iteration > 0, smallest, lambda: jnp.asarray(jnp.inf, s.alphas.dtype))
