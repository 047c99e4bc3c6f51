"""Enhancement factors over uniform-gas exchange: what pointwise conditions are statements about."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import pytree, replace, static
from dqc.xc.box import EXCHANGE, Points, features_at
from dqc.xc.features import Features
from dqc.xc.functional import Functional
from dqc.xc.splitting import HIGH_DENSITY, split
from dqc.xc.variables import RS, floor

SPIN_EXCHANGE = EXCHANGE / RS * 2.0 ** (1 / 3)  # e_x = -SPIN_EXCHANGE n_s^(4/3) of one spin


@pytree
class Enhancement:
    """F = e / (n eps_x^unif(n)) of a functional's parts, with eps_x^unif that of the unpolarised gas.

    Exact exchange has no value at a point. So F_x of a hybrid is that of its semilocal exchange divided by
    the share of exchange that is semilocal, 1 - a_0; with range separation both are taken in the
    high-density limit, where the attenuation by erfc(omega r) is gone.
    """

    whole: Functional
    exchange: Functional
    correlation: Functional
    ranged: bool = static()

    def f_x(self, points: Points) -> Float[Array, " g"]:
        """The enhancement factor of exchange."""
        if self.ranged:
            points = replace(points, r_s=jnp.full_like(points.r_s, HIGH_DENSITY))
        return self.of_exchange(features_at(points))

    def of_exchange(self, features: Features) -> Float[Array, " g"]:
        """The same for given features."""
        if self.exchange.needs.rung == "none":
            return jnp.zeros_like(features.rho[0])
        share = 1.0 - self.whole.exchange().get(0.0, jnp.zeros(()))
        return _factor(self.exchange, features) / share

    def f_c(self, points: Points) -> Float[Array, " g"]:
        """The enhancement factor of correlation."""
        if self.correlation.needs.rung == "none":
            return jnp.zeros_like(points.r_s)
        return _factor(self.correlation, features_at(points))

    def f_xc(self, points: Points) -> Float[Array, " g"]:
        """The enhancement factor of the whole semilocal energy density, undivided."""
        return _factor(self.whole, features_at(points))


def enhancement(xc: Functional) -> Enhancement:
    """The enhancement factors of a functional, split by :func:`dqc.xc.splitting.split`."""
    exchange, correlation = split(xc)
    return Enhancement(xc, exchange, correlation, ranged=any(omega > 0 for omega in xc.needs.omegas))


def _factor(functional: Functional, features: Features) -> Float[Array, " g"]:
    if functional.needs.exchange_density:
        uniform = -SPIN_EXCHANGE * features.rho ** (4 / 3)
        features = replace(features, exchange_density=uniform)
    n = features.rho.sum(0)
    live = n > floor(n.dtype)
    return functional(features) / (-EXCHANGE / RS * jnp.where(live, n, 1.0) ** (4 / 3))


def slopes(f: Callable[[Points], Array], points: Points, order: int = 1) -> tuple[Float[Array, " g"], ...]:
    """F and its derivatives by ln r_s up to an order, at fixed s, zeta and alpha."""

    def raised(g: Callable[[Array], tuple[Array, ...]]) -> Callable[[Array], tuple[Array, ...]]:
        def next_order(x: Array) -> tuple[Array, ...]:
            values, changes = jax.jvp(g, (x,), (jnp.ones_like(x),))
            return (*values, changes[-1])

        return next_order

    def along(x: Array) -> tuple[Array, ...]:
        return (f(replace(points, r_s=jnp.exp(x))),)

    raised_along: Callable[[Array], tuple[Array, ...]] = along
    for _ in range(order):
        raised_along = raised(raised_along)
    return raised_along(jnp.log(points.r_s))
