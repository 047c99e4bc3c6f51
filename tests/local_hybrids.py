"""What the tests of local hybrids share: exact exchange by its energy density, and a bent local hybrid."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import dqc


@dqc.pytree
class PointwiseExchange:
    """All of exact exchange, by its energy density on the grid."""

    share: Float[Array, ""]

    @property
    def needs(self) -> dqc.Needs:
        return dqc.Needs("lda", (), exchange_density=True)

    def exchange(self) -> dict[float, Float[Array, ""]]:
        return {}

    def __call__(self, features: dqc.Features) -> Float[Array, " g"]:
        return self.share * features.exchange_density.sum(0)


ALL = PointwiseExchange(jnp.asarray(1.0))


def bent(parent: str = "pbe0") -> dqc.Neural:
    """A local hybrid whose networks say something."""
    xc = dqc.neural(parent, "local_hybrid", hidden=(6,))
    leaves, tree = jax.tree.flatten(xc)
    rng = np.random.default_rng(0)
    return jax.tree.unflatten(tree, [jnp.asarray(0.3 * rng.normal(size=x.shape)) for x in leaves])
