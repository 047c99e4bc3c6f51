"""Gauss and Newton's method, damped after Levenberg and Marquardt, as an optimiser of optax's kind.

The loss is quadratic in the energies, and their derivatives are at hand. With these as rows of A, scaled so
that the second derivative of the loss is A^T A and what curvature and other terms add, a step is

    delta = -(A^T A + lambda)^(-1) g = -(g - A^T (A A^T + lambda)^(-1) A g) / lambda,

a system of as many equations as there are reactions. A step that did not lower the loss is taken back and
lambda grows; else it shrinks. Marquardt (1963), doi:10.1137/0111030.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, Int

from dqc.types import pytree, replace

START, SHRINK, GROW = 0.1, 1.0 / 3.0, 4.0  # of lambda; the first in units of the mean of A A^T's diagonal


@pytree
class Held:
    """The parameters of the lowest loss so far, and what a step from them is made of."""

    parameters: Any
    gradient: Any
    rows: Any  # each leaf with the axis of the reactions before its own
    loss: Float[Array, ""]
    used: Int[Array, ""]  # reactions in it
    damping: Float[Array, ""]


def gauss_newton(reactions: int) -> optax.GradientTransformationExtraArgs:
    """The optimiser for so many reactions; its update takes ``loss``, ``rows`` and ``used`` as well."""

    def init(parameters: Any) -> Held:
        zero = jax.tree.map(jnp.zeros_like, parameters)
        rows = jax.tree.map(lambda x: jnp.zeros((reactions, *x.shape), x.dtype), parameters)
        start = jnp.asarray(START / SHRINK, float)
        return Held(parameters, zero, rows, jnp.asarray(jnp.inf, float), jnp.zeros((), int), start)

    def update(
        gradient: Any, held: Held, parameters: Any, *, loss: Array, rows: Any, used: Array, **_: Any
    ) -> tuple[Any, Held]:
        # A loss of fewer reactions, since fields have failed, is no lower one.
        better = jnp.isfinite(loss) & ((used > held.used) | ((used == held.used) & (loss < held.loss)))
        damping = held.damping * jnp.where(better, SHRINK, GROW)
        new = Held(parameters, gradient, rows, loss, used, damping)
        kept = jax.tree.map(lambda a, b: jnp.where(better, a, b), new, replace(held, damping=damping))
        flat, unravel = ravel_pytree(kept.parameters)
        target = unravel(flat + _step(kept))
        return jax.tree.map(jnp.subtract, target, parameters), kept

    return optax.GradientTransformationExtraArgs(init, update)


def settled(parameters: Any, state: Any) -> Any:
    """The parameters to end with: of these steps the best that were seen, of another optimiser's the last."""
    return state.parameters if isinstance(state, Held) else parameters


def _step(held: Held) -> Float[Array, " f"]:
    g, _ = ravel_pytree(held.gradient)
    A = jax.vmap(lambda row: ravel_pytree(row)[0])(held.rows)
    overlap = A @ A.T
    damping = held.damping * jnp.maximum(jnp.trace(overlap) / len(A), jnp.finfo(A.dtype).tiny)
    inner = jnp.linalg.solve(overlap + damping * jnp.eye(len(A)), A @ g)
    return -(g - A.T @ inner) / damping
