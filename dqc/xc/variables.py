"""The variables of the papers, made once from the features, with the density clamped here and only here.

Where a density is below :func:`floor` it is replaced by 1 before any power or logarithm is taken, and
every contribution of that point (or of that spin channel) is replaced by zero afterwards. Value and all
derivatives are then finite on vacuum, for an empty spin channel and at full polarisation.

Everything is a function of the cube roots of the densities and of three quotients, ``x2``, ``T`` and the
spin fractions ``up`` and ``dn``. XLA on the CPU copies cheap producers into each of their consumers, but
stores what a division or a root made: potentials, and their own derivatives, end in a division, see
:func:`dqc.xc.elementary.divide`, and are computed once.
"""

from __future__ import annotations

from functools import partial
from math import pi
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from dqc.xc.elementary import cbrt, divide
from dqc.xc.features import Features

S2_SPIN = 1.0 / (4.0 * (6.0 * pi**2) ** (2 / 3))  # s^2 = S2_SPIN |grad n_s|^2 / n_s^(8/3)
S2_TOTAL = 1.0 / (4.0 * (3.0 * pi**2) ** (2 / 3))  # s^2 = S2_TOTAL |grad n|^2 / n^(8/3)
TAU_UNIFORM_SPIN = 0.3 * (6.0 * pi**2) ** (2 / 3)  # tau_unif = TAU_UNIFORM_SPIN n_s^(5/3)
TAU_UNIFORM_TOTAL = 0.3 * (3.0 * pi**2) ** (2 / 3)  # without its dependence on zeta
RS = (3.0 / (4.0 * pi)) ** (1 / 3)  # r_s = RS n^(-1/3)
TWO_CBRT = 2.0 ** (1 / 3)


def floor(dtype: jnp.dtype) -> float:
    """The density (electrons/bohr^3) below which a point or a spin channel counts as empty."""
    return 1e-16 if dtype == jnp.float64 else 1e-9


def counts(T: Array) -> Array:
    """Whether a reduced kinetic energy density is more than round-off, and may divide."""
    return jnp.greater(T, jnp.finfo(T.dtype).eps ** 0.75)


class Channel(NamedTuple):
    """One spin channel; n_s here is a spin density, and s, T are those of the density 2 n_s."""

    live: Bool[Array, " g"]  # the channel is not empty
    c: Float[Array, " g"]  # n_s^(1/3), or 1 where it is empty
    x2: Float[Array, " g"] | None  # |grad n_s|^2 / n_s^(8/3)
    T: Float[Array, " g"] | None  # tau / tau_unif; alpha = T - 5 s^2 / 3

    @property
    def s2(self) -> Float[Array, " g"]:
        return S2_SPIN * self.x2


class Total(NamedTuple):
    """Both spins together, for correlation; ``up`` and ``dn`` are None when the shells are closed."""

    live: Bool[Array, " g"]
    c: Float[Array, " g"]  # n^(1/3), or 1 where it is empty
    r: Float[Array, " g"]  # n^(-1/3)
    up: Float[Array, " g"] | None  # (1 + zeta)^(1/3)
    dn: Float[Array, " g"] | None  # (1 - zeta)^(1/3)
    x2: Float[Array, " g"] | None  # |grad n|^2 / n^(8/3)
    T: Float[Array, " g"] | None  # tau / tau_unif(zeta = 0)

    @property
    def closed(self) -> bool:
        return self.up is None

    @property
    def n(self) -> Float[Array, " g"]:
        return self.c * self.c * self.c

    @property
    def rs(self) -> Float[Array, " g"]:
        return RS * self.r

    @property
    def s2(self) -> Float[Array, " g"]:
        return S2_TOTAL * self.x2

    @property
    def fractions(self) -> tuple[Float[Array, " g"], Float[Array, " g"]]:
        """1 + zeta and 1 - zeta."""
        return self.up * self.up * self.up, self.dn * self.dn * self.dn


class Variables(NamedTuple):
    """The spin channels (one of them when the shells are closed) and the total."""

    channels: tuple[Channel, ...]
    total: Total


def variables(features: Features) -> Variables:
    """Derived variables of the features.

    With ``closed_shell`` both rows are averaged, so that the derivatives with respect to the rows are
    those of the general path for tangents that are themselves closed-shell, shared equally.
    """
    rho, grad, tau = features.rho, features.grad, features.tau
    n = _combine(rho, (1.0, 1.0))
    sigma = None if grad is None else _norm2(_combine(grad, (1.0, 1.0)))
    t = None if tau is None else _combine(tau, (1.0, 1.0))
    live, c = n > floor(n.dtype), _cube_root(n)
    x2, T = _quotient(sigma, c, 8), _quotient(t, c, 5, TAU_UNIFORM_TOTAL)
    if features.closed_shell:
        half = Channel(live, c / TWO_CBRT, _scale(TWO_CBRT**2, x2), T)
        return Variables((half,), Total(live, c, divide(1.0, c), None, None, x2, T))
    a, b = (_channel(rho, grad, tau, spin) for spin in ((1.0, 0.0), (0.0, 1.0)))
    # Two spins below the floor can sum to a density above it: such a point is empty as well.
    live = a.live | b.live
    up, dn = (jnp.where(x.live, divide(TWO_CBRT * x.c, c), jnp.where(live, 0.0, 1.0)) for x in (a, b))
    return Variables((a, b), Total(live, c, divide(1.0, c), up, dn, x2, T))


def _channel(rho: Array, grad: Array | None, tau: Array | None, spin: tuple[float, float]) -> Channel:
    n = _combine(rho, spin)
    sigma = None if grad is None else _norm2(_combine(grad, spin))
    tau = None if tau is None else _combine(tau, spin)
    c = _cube_root(n)
    return Channel(n > floor(n.dtype), c, _quotient(sigma, c, 8), _quotient(tau, c, 5, TAU_UNIFORM_SPIN))


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _combine(x: Float[Array, "s *g"], weights: tuple[float, ...]) -> Float[Array, "*g"]:
    """sum_s weights_s x_s. Slices and sums are fast forwards, but their transposes are paddings, which
    XLA evaluates without vector instructions; the transpose of a product with a vector is a broadcast."""
    terms = [x[s] if w == 1.0 else w * x[s] for s, w in enumerate(weights) if w != 0.0]
    return sum(terms[1:], terms[0])


@_combine.defjvp
def _combine_jvp(weights, primals, tangents):
    (x,), (dx,) = primals, tangents
    w = jnp.asarray(weights, x.dtype).reshape(-1, *(1,) * (x.ndim - 1))
    return _combine(x, weights), jnp.sum(w * dx, axis=0)


@jax.custom_jvp
def _cube_root(n: Float[Array, " g"]) -> Float[Array, " g"]:
    """n^(1/3), or the constant 1 below the floor."""
    return cbrt(jnp.where(n > floor(n.dtype), n, 1.0))


@_cube_root.defjvp
def _cube_root_jvp(primals, tangents):
    (n,), (dn,) = primals, tangents
    c = _cube_root(n)
    return c, jnp.where(n > floor(n.dtype), divide(dn, 3.0 * (c * c)), 0.0)


def _norm2(v: Float[Array, "x g"]) -> Float[Array, " g"]:
    return _combine(v * v, (1.0, 1.0, 1.0))


def _scale(factor: float, x: Array | None) -> Array | None:
    return None if x is None else factor * x


def _quotient(x: Array | None, c: Array, power: int, scale: float = 1.0) -> Array | None:
    """x / (scale c^power)."""
    if x is None:
        return None
    c2 = c * c
    c4 = c2 * c2
    return divide(x, scale * c4 * {5: c, 8: c4}[power])


def f_zeta(t: Total) -> Float[Array, " g"]:
    """f(zeta) = [(1 + zeta)^(4/3) + (1 - zeta)^(4/3) - 2] / (2^(4/3) - 2), Eq. 9 of
    doi:10.1103/PhysRevB.45.13244."""
    up2, dn2 = t.up * t.up, t.dn * t.dn
    return (up2 * up2 + dn2 * dn2 - 2.0) / (2.0 ** (4 / 3) - 2.0)


def zeta2(t: Total) -> Float[Array, " g"]:
    """zeta^2."""
    za, zb = t.fractions
    zeta = 0.5 * (za - zb)
    return zeta * zeta


def one_minus_zeta2(t: Total) -> Float[Array, " g"]:
    """1 - zeta^2 = (1 + zeta)(1 - zeta), exactly zero at full polarisation."""
    za, zb = t.fractions
    return za * zb


def phi(t: Total) -> Float[Array, " g"] | float:
    """phi(zeta) = [(1 + zeta)^(2/3) + (1 - zeta)^(2/3)] / 2."""
    return 1.0 if t.closed else 0.5 * (t.up * t.up + t.dn * t.dn)
