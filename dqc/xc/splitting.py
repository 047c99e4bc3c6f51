"""A functional as the sum of its exchange and its correlation."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import pytree
from dqc.xc.algebra import Algebra, Scaled, Sum
from dqc.xc.features import Features
from dqc.xc.functional import Functional, Needs
from dqc.xc.literature import Literature
from dqc.xc.variables import RS, floor

HIGH_DENSITY = 1e-8  # r_s at which correlation is negligible beside exchange: F_c is about r_s


def split(xc: Functional) -> tuple[Functional, Functional]:
    """Exchange, with any exact exchange, and correlation; they add up to ``xc``.

    A functional of the literature knows which of its terms are exchange. One with a method ``split()``
    is asked; it returns such a pair, or None where it cannot tell. For all others exchange is the
    high-density limit at fixed s, zeta and alpha, where correlation vanishes: e_x[n] is the limit of
    e_xc[n_k] / k^4 as k grows, n_k(r) = k^3 n(k r). That is no use for range-separated functionals,
    whose exchange depends on r_s.
    """
    own = getattr(xc, "split", None)
    pair = None if own is None else own()
    if pair is not None:
        return pair
    if isinstance(xc, Literature):
        return _of_recipe(xc, exchange=True), _of_recipe(xc, exchange=False)
    if isinstance(xc, Scaled):
        parts = split(xc.functional)
        return (Scaled(parts[0], xc.factor, xc.constant), Scaled(parts[1], xc.factor, xc.constant))
    if isinstance(xc, Sum):
        pairs = [split(part) for part in xc.parts]
        return Sum(tuple(x for x, _ in pairs)), Sum(tuple(c for _, c in pairs))
    exchange = HighDensity(xc)
    return exchange, Sum((xc, Scaled(exchange, None, -1.0)))


def _of_recipe(xc: Literature, exchange: bool) -> Literature:
    terms = tuple(term for term in xc.recipe.terms if term.exchange == exchange)
    return Literature(xc.trained, xc.recipe._replace(terms=terms))


@pytree
class HighDensity(Algebra):
    """The limit of e_xc[n_k] / k^4 for k to infinity, evaluated where r_s has become 1e-8 bohr."""

    functional: Functional

    @property
    def needs(self) -> Needs:
        return self.functional.needs

    def exchange(self) -> dict[float, Float[Array, ""]]:
        return self.functional.exchange()

    def __call__(self, features: Features) -> Float[Array, " g"]:
        n = features.rho.sum(0)
        live = n > floor(n.dtype)
        k = RS / HIGH_DENSITY / jnp.where(live, n, 1.0) ** (1 / 3)

        def scaled(x: Array | None, power: int) -> Any:
            return None if x is None else jnp.where(live, k**power * x, 0.0)

        there = Features(
            rho=scaled(features.rho, 3),
            grad=scaled(features.grad, 4),
            tau=scaled(features.tau, 5),
            exchange_density=scaled(features.exchange_density, 4),
            closed_shell=features.closed_shell,
        )
        return jnp.where(live, self.functional(there) / k**4, 0.0)
