"""Minimal residuals for symmetric linear equations, definite or not.

``minres``, Paige, Saunders (1975), doi:10.1137/0712047, is a Lanczos recurrence whose tridiagonal matrix is
brought to triangular form by plane rotations as it grows. Its eigenvalues, the Ritz values, come for free.
``refined`` needs few products where the operator is almost known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

INNER_TOLERANCE = 1e-3, 0.1  # of the equations with the rough operator, at least and at most
INNER_ITERATIONS = 40
WORTHWHILE = 0.5  # a correction is followed by another where it brings the residual below this share
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
    left: Array  # b - A x
    size: Array  # its norm
    before: Array  # the norm before the last round; inf if that was no correction
    rounds: Array
    smallest: Array
    apart: Array  # |(A - R) d| / |d|, the largest of the corrections d so far
    directions: Array  # combinations of the d so far, one for each round,
    products: Array  # and of the A d: these orthonormal


def refined(
    matvec: Callable[[Array], Array],
    rough: Callable[[Array], Array],
    b: Float[Array, "..."],
    tolerance: float | Array,
    max_iterations: int,
) -> Outcome:
    """The same as :func:`minres`, where a symmetric ``rough`` operator close to A is cheaper to apply.

    Generalised conjugate residuals: |b - A x| is least among the combinations of the directions so far, which
    are corrections R^(-1) (b - A x) with R rough and, after each that was of little use, once b - A x itself.
    Van der Vorst, Vuik (1994), doi:10.1002/nla.1680010404. All ``max_iterations`` directions are kept, twice.

    Of the last correction d, A d is not computed where what is left is known well enough,
    |r - A d| <= |r - R d| + |A - R| |d| with |A - R| from the corrections before; ``residual`` is then this
    bound.
    """
    norm = _size(b)

    def unfinished(s: _Refinement) -> Array:
        # Written so that a NaN ends the rounds.
        return (s.size > tolerance * norm) & (s.rounds < max_iterations)

    def step(s: _Refinement) -> _Refinement:
        correcting = s.size < WORTHWHILE * s.before
        accuracy = jnp.clip(0.3 * tolerance * norm / s.size, *INNER_TOLERANCE)  # one more to reach the end
        change = minres(rough, jnp.where(correcting, s.left, 0.0), accuracy, INNER_ITERATIONS)
        d = jnp.where(correcting, change.x, s.left)
        length = _size(d)
        bound = change.residual * s.size + CAUTION * s.apart * length
        known = correcting & (s.rounds > 0) & (bound <= tolerance * norm)

        def told() -> _Refinement:
            return s._replace(x=s.x + d, left=change.left, size=bound)

        def computed() -> _Refinement:
            Ad = matvec(d)
            overlaps = jnp.tensordot(s.products, Ad, b.ndim)
            q = Ad - jnp.tensordot(overlaps, s.products, 1)
            scale = 1.0 / jnp.where(_size(q) > 0, _size(q), 1.0)
            q, e = scale * q, scale * (d - jnp.tensordot(overlaps, s.directions, 1))
            share = jnp.vdot(q, s.left)
            left = s.left - share * q
            apart = _size(s.left - change.left - Ad) / length
            return s._replace(
                x=s.x + share * e,
                left=left,
                size=_size(left),
                smallest=_least(s.smallest, jnp.vdot(d, Ad) / length**2),
                apart=jnp.maximum(s.apart, jnp.where(correcting, apart, 0.0)),
                directions=s.directions.at[s.rounds].set(e),
                products=s.products.at[s.rounds].set(q),
            )

        after = jax.lax.cond(known, told, computed)
        smallest = _least(after.smallest, change.smallest)
        before = jnp.where(correcting, s.size, jnp.inf)
        return after._replace(before=before, rounds=s.rounds + 1, smallest=smallest)

    infinite, nothing = jnp.asarray(jnp.inf, b.dtype), jnp.zeros((max_iterations, *b.shape), b.dtype)
    start = _Refinement(
        x=jnp.zeros_like(b),
        left=b,
        size=norm,
        before=infinite,
        rounds=jnp.zeros((), int),
        smallest=infinite,
        apart=jnp.zeros_like(norm),
        directions=nothing,
        products=nothing,
    )
    end = jax.lax.while_loop(unfinished, step, start)
    return Outcome(
        x=end.x,
        iterations=end.rounds,
        residual=end.size / jnp.where(norm > 0, norm, 1.0),
        left=end.left,
        smallest=end.smallest,
        converged=end.size <= tolerance * norm,
    )


def minres(
    matvec: Callable[[Array], Array], b: Float[Array, "..."], tolerance: float | Array, max_iterations: int
) -> Outcome:
    """Solve A x = b for a symmetric A, an array of any shape being a vector, until |b - A x| < tolerance |b|.

    For b = 0 the answer is 0, after no iteration. A system that is singular but consistent has its
    solution of least norm.
    """
    norm = _size(b)
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
        left=b / scale,
        alphas=memory,
        betas=memory,
    )

    def unfinished(s: _State) -> Array:
        # Written so that a NaN ends the iterations.
        return (jnp.abs(s.eta) > tolerance) & (s.iteration < max_iterations)

    end = jax.lax.while_loop(unfinished, lambda s: _advance(matvec(s.v), s), start)
    return Outcome(
        x=norm * end.x,
        iterations=end.iteration,
        residual=jnp.abs(end.eta),
        left=norm * end.left,
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
