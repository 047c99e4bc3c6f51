"""Neural functionals: a functional of the literature whose energy densities networks bend.

With the parent's enhancement factor F_p, its correlation energy density e_p, and networks d_x and d_c of
dimensionless features,

    e_x = sum_s e_x^LDA(n_s) bend(F_p, k_x d_x, B),        e_c = e_p m(k_c d_c),
    m(d) = (d + sqrt(d^2 + 4)) / 2,                         bend(F, d, B) = F m / (1 + (m - 1) F / B).

``bend`` keeps 0 <= F <= B and is F at d = 0; m is positive and 1 at d = 0; k vanishes at the uniform gas,
to the order of the gradient expansion. So an exact condition of the parent is one of its descendant,
whatever the networks say, and a new functional, whose networks say zero, is its parent.

In a local hybrid exact exchange is mixed in point by point,

    e_x = sum_s (1 - g) e_x^bent + g e_x^HF,    g = 1 - (1 - (z zeta^2)^2) bend(1 - a, d, 1),

with z = tau_W/tau of the channel: g = 1 wherever there is one electron, and elsewhere it starts at the
fraction ``a`` of the parent. Local hybrids: doi:10.1063/1.1528936.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import pytree, replace, static
from dqc.xc.algebra import RUNGS, Algebra
from dqc.xc.by_construction import checked
from dqc.xc.elementary import divide
from dqc.xc.features import Features
from dqc.xc.functional import Needs, Rung
from dqc.xc.lda import uniform_exchange
from dqc.xc.literature import KERNELS, Literature, Recipe, Term
from dqc.xc.names import known_names, resolve
from dqc.xc.networks import NetworkLike, Perceptron, adapted, squareplus
from dqc.xc.pointwise import LOCAL_BOUND, TWO_ELECTRON_BOUND
from dqc.xc.scan import alpha_uniform
from dqc.xc.variables import RS, TWO_CBRT, Channel, Total, Variables, counts, variables, zeta2

PARTS = ("exchange", "correlation")


class Design(NamedTuple):
    """Everything of a neural functional that is no parameter."""

    parent: str
    recipe: Recipe
    rung: Rung
    local: bool
    constraints: frozenset[str]
    modules: tuple[tuple[str, NetworkLike], ...]  # by the names of ``Neural.networks``

    @property
    def omegas(self) -> tuple[float, ...]:
        return tuple(sorted(t.kernel for t in self.recipe.terms if not isinstance(t.kernel, str)))


@pytree
class Neural(Algebra):
    """A literature functional bent by networks; the parameters are its leaves. Made by :func:`neural`."""

    networks: dict[str, Any]  # parameters, by "exchange", "correlation" and (local hybrids) "local"
    mixing: dict[str, Float[Array, ""]]  # what moves the parent's fractions of exact exchange; 0: not at all
    design: Design = static()
    parts: tuple[str, ...] = static(default=PARTS)

    @property
    def needs(self) -> Needs:
        exact, local = "exchange" in self.parts, self.design.local
        return Needs(self.design.rung, self.design.omegas if exact and not local else (), exact and local)

    def exchange(self) -> dict[float, Float[Array, ""]]:
        """Coefficients of exact exchange by omega (0: full range, omega > 0: long range)."""
        return Literature(self._fractions(), self.design.recipe).exchange() if self.needs.omegas else {}

    def split(self) -> tuple[Neural, Neural]:
        """Exchange and correlation apart, as two functionals."""
        return replace(self, parts=PARTS[:1]), replace(self, parts=PARTS[1:])

    def __call__(self, features: Features) -> Float[Array, " g"]:
        """Energy density in hartree/bohr^3."""
        v = variables(features)
        e = jnp.zeros_like(v.total.n)
        if "exchange" in self.parts:
            rows = [jnp.where(c.live, self._exchange(c, v.total), 0.0) for c in v.channels]
            if self.design.local:
                shares = [self._share(c, v.total) for c in v.channels]
                exact = _rows(features)
                rows = [x + g * (y - x) for x, g, y in zip(rows, shares, exact, strict=True)]
            e = 2.0 * rows[0] if len(rows) == 1 else rows[0] + rows[1]
        if "correlation" in self.parts:
            e = e + self._correlation(v)
        return jnp.where(v.total.live, e, 0.0)

    def _fractions(self) -> dict[str, Float[Array, ""]]:
        values = dict(self.design.recipe.mixing)
        return {name: bend(jnp.asarray(values[name]), d, 1.0) for name, d in self.mixing.items()}

    def _weighed(self, term: Term, v: Any) -> Array:
        mixing = dict(self.design.recipe.mixing) | self._fractions()
        return term.weight(mixing) * KERNELS[term.kernel].evaluate(v, **dict(term.fixed))  # type: ignore

    def _exchange(self, c: Channel, t: Total) -> Float[Array, " g"]:
        """Semilocal exchange of one spin channel; under a local hybrid as if it were all of exchange."""
        terms, mixing = _terms(self.design.recipe, exchange=True), dict(self.design.recipe.mixing)
        share = sum(term.weight(mixing | self._fractions()) for term in terms)
        e = sum((self._weighed(term, c) for term in terms), jnp.zeros_like(c.c))
        if self.design.local:
            e, share = e / share, 1.0
        if "exchange" not in self.networks:
            return e
        held, uniform = self.design.constraints, share * uniform_exchange(c)
        u, a = self._gradients(c)
        x = [u, a]
        if "uniform_scaling" not in held:
            rs = RS / (TWO_CBRT * c.c)
            x.append(divide(rs, 1.0 + rs))
        if "spin_scaling" not in held:
            x.append(_zeta2(t))
        d = self._slack(u, a) * self._network("exchange", x)
        if "lieb_oxford" in held:
            return uniform * bend(divide(e, uniform), d, self._bound(c))
        return e * squareplus(d) if "exchange_sign" in held else e + uniform * d

    def _correlation(self, v: Variables) -> Float[Array, " g"]:
        t = v.total
        e = sum(
            (self._weighed(term, v) for term in _terms(self.design.recipe, exchange=False)),
            jnp.zeros_like(t.c),
        )
        if "correlation" not in self.networks:
            return e
        u, a = self._gradients(t)
        d = self._network("correlation", [divide(t.rs, 1.0 + t.rs), _zeta2(t), u, a])
        d = self._slack(u, a) * d
        return e * squareplus(d) if "correlation_sign" in self.design.constraints else e * (1.0 + d)

    def _share(self, c: Channel, t: Total) -> Float[Array, " g"]:
        """The share g of exact exchange in a local hybrid.

        It knows of the other spin, by zeta, unless the spin-scaling relation is asked for. That relation
        makes g = 1 in the singlet of two electrons as well, where semilocal exchange, in excess of the
        exact one, stands for the correlation of a stretched bond: it is not among the recommended ones.
        """
        held, mixing = self.design.constraints, dict(self.design.recipe.mixing)
        exact = sum(term.weight(mixing) for term in self.design.recipe.terms if term.kernel == 0.0)
        spin = None if "spin_scaling" in held else _zeta2(t)
        semilocal = bend(1.0 - exact, self._network("local", [*self._gradients(c), spin]), 1.0)
        if "one_electron_exchange" not in held:
            return 1.0 - semilocal
        live = counts(c.T)
        z = jnp.where(live, 5.0 / 3.0 * divide(c.s2, jnp.where(live, c.T, 1.0)), 0.0)
        single = (jnp.minimum(z, 1.0) * (1.0 if spin is None else spin)) ** 2
        return 1.0 - (1.0 - single) * semilocal

    def _network(self, name: str, features: list[Array | None]) -> Float[Array, " g"]:
        x = jnp.stack([f for f in features if f is not None]).T
        d = dict(self.design.modules)[name].apply(self.networks[name], x).reshape(x.shape[:-1])
        return d.astype(x.dtype)

    def _gradients(self, v: Channel | Total) -> tuple[Array | None, Array | None]:
        """s^2/(4 + s^2) and 2 beta - 1, within [-1, 1] and 0 at the uniform gas; None below their rung."""
        if self.design.rung == "lda":
            return None, None
        u = divide(v.s2, 4.0 + v.s2)
        if self.design.rung == "gga":
            return u, None
        return u, 2.0 * _beta(v) - 1.0

    def _slack(self, u: Array | None, a: Array | None) -> Array | float:
        """k: zero at the uniform gas to as high an order in the gradients as the constraints ask."""
        if "gradient_expansion" in self.design.constraints:
            return u * u + (0.0 if a is None else a * a)
        if "uniform_gas" in self.design.constraints:
            return u + (0.0 if a is None else a * a)
        return 1.0

    def _bound(self, c: Channel) -> Array | float:
        """The largest F_x: 1.804, falling to 1.174 where beta is 0."""
        if "two_electron_bound" not in self.design.constraints:
            return LOCAL_BOUND
        return TWO_ELECTRON_BOUND + (LOCAL_BOUND - TWO_ELECTRON_BOUND) * _beta(c)


def bend(F: Any, d: Array, bound: Any) -> Array:
    """F m/(1 + (m - 1) F/bound), m = squareplus(d): within [0, bound] if F is, and F at d = 0."""
    m = squareplus(d)
    return divide(F * m, 1.0 + (m - 1.0) * (F / bound))


def _beta(v: Channel | Total) -> Float[Array, " g"]:
    """beta = (tau - tau_W)/(tau + tau_unif), 0 in a single orbital and 1/2 in the uniform gas.

    Like alpha, it tells kinds of bonds apart, but its derivative by tau stays bounded in the tail of a
    density (doi:10.1103/PhysRevB.99.041119); of a channel it is that of the density 2 n_s.
    """
    uniform = 1.0 if isinstance(v, Channel) or v.closed else alpha_uniform(v)
    return divide(v.T - 5.0 / 3.0 * v.s2, v.T + uniform)


def _zeta2(t: Total) -> Float[Array, " g"]:
    return jnp.zeros_like(t.c) if t.closed else zeta2(t)


def _rows(features: Features) -> list[Array]:
    """Exact exchange of each spin channel, or of one of two alike."""
    x = features.exchange_density
    if x is None:
        raise ValueError("A local hybrid reads the exact-exchange energy density: give exchange_density.")
    return [0.5 * (x[0] + x[1])] if features.closed_shell else [x[0], x[1]]


def neural(
    parent: str = "pbe",
    rung: str | None = None,
    constraints: str | Iterable[str] = "recommended",
    hidden: tuple[int, ...] = (16, 8),
    seed: int = 0,
    network: Any = None,
    precision: Literal["float64", "float32"] = "float64",
) -> Neural:
    """A neural functional that starts as its parent, a functional of the literature by name.

    Its ingredients are those of ``rung``, by default the parent's: a hybrid parent gives a hybrid whose
    fraction of exact exchange is learned, within (0, 1); a range-separated parent such as ``"lc_wpbe"``
    keeps its exact exchange at long range; ``rung="local_hybrid"`` makes of a global hybrid one that mixes
    point by point. ``constraints`` names the exact conditions to build in (:mod:`dqc.xc.by_construction`),
    ``"recommended"`` all that the rung admits and the parent meets; ``()`` none. ``hidden`` are the
    widths of the networks' layers, ``precision`` their arithmetic. ``network`` is a Flax module (or
    anything with ``init`` and ``apply``) from features (g, f) to numbers (g,) to be used instead, or a
    dictionary of them by ``"exchange"``, ``"correlation"`` and, in local hybrids, ``"local"``, which read
    different numbers of features; where it starts at zero the functional starts as its parent. Raises
    ``ValueError`` for a parent that is not written in this package, a rung below the parent's, and a
    constraint that cannot be built in.
    """
    recipe = resolve(parent)
    if recipe is None:
        raise ValueError(
            f"the parent {parent!r} of a neural functional must be made of functionals written in dqc: "
            f"{', '.join(known_names())}"
        )
    local = rung == "local_hybrid"
    taken = _rung(parent, Literature({}, recipe).needs, rung)
    sides = (_terms(recipe, exchange) for exchange in (True, False))
    exchange, correlation = (tuple(str(term.kernel) for term in side) for side in sides)
    held = checked(constraints, taken, _exact_kind(recipe, local), exchange, correlation)
    if taken == "lda" and "uniform_gas" in held:
        raise ValueError("'uniform_gas' leaves nothing to learn on the lda rung: leave it out.")
    sizes = _inputs(taken, local, held, bool(exchange), bool(correlation))
    modules = _modules(sizes, Perceptron(tuple(hidden), precision) if network is None else network)
    design = Design(parent, recipe, taken, local, held, tuple(modules.items()))
    keys = jax.random.split(jax.random.key(seed), 3)
    dtype = jnp.dtype(precision)
    networks = {
        name: modules[name].init(key, jnp.zeros((1, size), dtype))
        for key, (name, size) in zip(keys, sizes.items(), strict=False)
    }
    fractions = {n for t in recipe.terms if not isinstance(t.kernel, str) for n, _ in t.weight.slopes}
    mixing = {} if local else {n: jnp.zeros(()) for n, _ in recipe.mixing if n in fractions}
    return Neural(networks, mixing, design)


def _terms(recipe: Recipe, exchange: bool) -> list[Term]:
    """The terms for the grid: those of exchange, or those of correlation."""
    return [t for t in recipe.terms if isinstance(t.kernel, str) and t.exchange == exchange]


def _modules(sizes: dict[str, int], network: Any) -> dict[str, NetworkLike]:
    """A network for each part that has one."""
    given = network if isinstance(network, Mapping) else dict.fromkeys(sizes, network)
    if set(given) != set(sizes):
        raise ValueError(f"network= has {', '.join(given)}; this functional wants {', '.join(sizes)}")
    return {name: adapted(given[name]) for name in sizes}


def _rung(parent: str, own: Needs, asked: str | None) -> Rung:
    """The semilocal rung of the functional asked for."""
    if asked is None:
        return own.rung
    if asked == "local_hybrid":
        if own.omegas != (0.0,):
            raise ValueError(
                f"a local hybrid starts from a global hybrid such as 'pbe0' or "
                f"'0.25*hf + 0.75*r2scan, r2scan', and {parent!r} is none"
            )
        return "mgga"
    if asked not in RUNGS[1:]:
        raise ValueError(f"rung={asked!r} is not one of 'lda', 'gga', 'mgga', 'local_hybrid'")
    if RUNGS.index(asked) < RUNGS.index(own.rung):
        raise ValueError(f"rung={asked!r} is below that of the parent {parent!r}, {own.rung!r}")
    return asked


def _exact_kind(recipe: Recipe, local: bool) -> str | None:
    """The rung's name for exact exchange that is all there at long range, or mixed locally."""
    if local:
        return "local_hybrid"
    exact = [t for t in recipe.terms if not isinstance(t.kernel, str)]
    if not exact:
        return None
    fixed = all(not t.weight.slopes for t in exact)
    whole = fixed and sum(t.weight.constant for t in exact) == 1.0
    return "range_separated" if whole else "hybrid"


def _inputs(
    rung: Rung, local: bool, constraints: frozenset[str], exchange: bool, correlation: bool
) -> dict[str, int]:
    """The networks there are, and how many features each of them reads."""
    gradients = RUNGS.index(rung) - 1
    free = {"uniform_scaling", "spin_scaling"} - constraints
    sizes = {"exchange": gradients + len(free)} if exchange else {}
    sizes |= {"correlation": gradients + 2} if correlation else {}
    sizes |= {"local": gradients + ("spin_scaling" in free)} if local else {}
    return {name: size for name, size in sizes.items() if size}
