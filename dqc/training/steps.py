"""The parts of a step that see no molecule: penalties on the functional, and the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from dqc.training.objective import Loss
from dqc.training.programs import each
from dqc.xc.functional import Functional


def penalties_of(loss: Loss) -> Callable[[Functional], tuple[dict[str, Array], Functional]]:
    """A function of the members: each penalty, and the derivative of their weighted sum."""
    functions, weights = loss.penalty_functions(), loss.weights()

    def one(xc: Functional) -> tuple[dict[str, Array], Functional]:
        def total(xc: Functional) -> tuple[Array, dict[str, Array]]:
            values = {name: function(xc) for name, function in functions.items()}
            return sum((weights[n] * v for n, v in values.items()), jnp.zeros(())), values

        slope, values = jax.grad(total, has_aux=True)(xc)
        return values, slope

    return jax.jit(lambda xcs: each(one, xcs))


def update_of(
    optimizer: optax.GradientTransformationExtraArgs,
) -> Callable[..., tuple[Functional, Any, Bool[Array, " q"]]]:
    """A step of each member, from its state, gradient, loss, rows of derivatives and number of reactions.

    A member whose loss or gradient is not finite stays where it is; the last result says who has moved.
    """

    def one(
        xc: Functional, state: Any, gradient: Functional, loss: Array, rows: Any, used: Array
    ) -> tuple[Functional, Any, Array]:
        leaves = jax.tree.leaves((gradient, loss))
        finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
        update, new = optimizer.update(gradient, state, xc, loss=loss, rows=rows, used=used)
        after = (optax.apply_updates(xc, update), new)
        moved, kept = jax.tree.map(lambda a, b: jnp.where(finite, a, b), after, (xc, state))
        return moved, kept, finite

    return jax.jit(jax.vmap(one))
