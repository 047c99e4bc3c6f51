"""The violations of exact conditions at points: positive where the condition fails.

Each function takes the enhancement factors of a functional and points of the box;
:mod:`dqc.xc.constraints` names them and says what each condition is.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import replace
from dqc.xc.box import EXCHANGE, Points, features_at
from dqc.xc.enhancement import Enhancement, slopes
from dqc.xc.features import Features
from dqc.xc.lda import pw92_modified
from dqc.xc.variables import variables

LIEB_OXFORD = 2.27  # on F_xc; arXiv:2303.01766
LOCAL_BOUND = 1.804  # on F_x at zeta = 0; doi:10.1103/PhysRevLett.77.3865
TWO_ELECTRON_BOUND = 1.174  # on F_x where alpha = 0; doi:10.1103/PhysRevLett.115.036402
GRADIENT_COEFFICIENT = 10.0 / 81.0
LOW_DENSITY = 1e4  # r_s that stands for infinity
DENSE = 1e-4  # r_s that stands for zero, where the derivative of eps_c by ln r_s is about r_s ln r_s
SMALL_GRADIENT, LARGE_GRADIENT = 1e-3, 1e5


def _spin_factor(zeta: Float[Array, " g"]) -> Float[Array, " g"]:
    """F_x of the polarised uniform gas: an exchange bound at zeta = 0 times this holds at zeta."""
    return 0.5 * ((1.0 + zeta) ** (4 / 3) + (1.0 - zeta) ** (4 / 3))


def exchange_sign(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return -f.f_x(p)


def lieb_oxford(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return f.f_x(p) - LOCAL_BOUND * _spin_factor(p.zeta)


def two_electron_bound(f: Enhancement, p: Points) -> Float[Array, " g"]:
    orbital = replace(p, alpha=jnp.zeros_like(p.alpha))
    return f.f_x(orbital) - TWO_ELECTRON_BOUND * _spin_factor(p.zeta)


def spin_scaling(f: Enhancement, p: Points) -> Float[Array, " g"]:
    x = features_at(p)
    n, total = x.rho.sum(0) ** (4 / 3), f.of_exchange(x)
    for spin in (0, 1):
        rho, grad, tau = (jnp.stack([v[spin], v[spin]]) for v in (x.rho, x.grad, x.tau))
        doubled = Features(rho=rho, grad=grad, tau=tau)
        total = total - 0.5 * f.of_exchange(doubled) * (2.0 * x.rho[spin]) ** (4 / 3) / n
    return jnp.abs(total)


def uniform_scaling(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return jnp.abs(f.f_x(p) - f.f_x(replace(p, r_s=jnp.ones_like(p.r_s))))


def uniform_gas(f: Enhancement, p: Points) -> Float[Array, " g"]:
    uniform = replace(p, s=jnp.zeros_like(p.s), alpha=jnp.ones_like(p.alpha))
    exact = pw92_modified(variables(features_at(uniform))) / (
        -EXCHANGE / p.r_s * features_at(uniform).rho.sum(0)
    )
    x = f.f_x(uniform) - _spin_factor(p.zeta) if f.exchange.needs.rung != "none" else jnp.zeros_like(p.s)
    c = f.f_c(uniform) - exact if f.correlation.needs.rung != "none" else jnp.zeros_like(p.s)
    return jnp.abs(x) + jnp.abs(c)


def gradient_expansion(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return jnp.broadcast_to(jnp.abs(gradient_coefficient(f) - GRADIENT_COEFFICIENT), p.s.shape)


def gradient_coefficient(f: Enhancement) -> Float[Array, ""]:
    """dF_x/ds^2 - (20/27) dF_x/dalpha at the uniform gas: there alpha = 1 - 40/27 s^2 + 20/9 q, and q
    integrates to s^2/3. By a slope at a small s, where functionals with roots of s^2 have one too."""
    one = jnp.ones(1)
    point = Points(one, SMALL_GRADIENT * one, 0.0 * one, one)
    by_s = jax.jvp(lambda s: f.f_x(replace(point, s=s)), (point.s,), (one,))[1] / (2.0 * SMALL_GRADIENT)
    by_alpha = jax.jvp(lambda alpha: f.f_x(replace(point, alpha=alpha)), (one,), (one,))[1]
    return (by_s - 20.0 / 27.0 * by_alpha)[0]


def nonuniform_scaling(f: Enhancement, p: Points) -> Float[Array, " g"]:
    """d ln F_x / d ln s + 1/2 at a large s, for the unpolarised and iso-orbital density."""
    zero = jnp.zeros_like(p.s)
    far = Points(p.r_s, LARGE_GRADIENT + zero, zero, zero)
    value, slope = jax.jvp(lambda s: f.f_x(replace(far, s=s)), (far.s,), (far.s,))
    return slope / value + 0.5


def correlation_sign(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return -f.f_c(p)


def correlation_scaling(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return -slopes(f.f_c, p)[1]


def kinetic_correlation_bound(f: Enhancement, p: Points) -> Float[Array, " g"]:
    value, slope = slopes(f.f_c, p)
    return slope + value - f.f_c(replace(p, r_s=jnp.full_like(p.r_s, LOW_DENSITY)))


def conjectured_kinetic_bound(f: Enhancement, p: Points) -> Float[Array, " g"]:
    value, slope = slopes(f.f_c, p)
    return slope - value


def adiabatic_connection(f: Enhancement, p: Points) -> Float[Array, " g"]:
    _, slope, curvature = slopes(f.f_c, p, 2)
    return -(curvature + slope)


def one_electron_correlation(f: Enhancement, p: Points) -> Float[Array, " g"]:
    """With s at least 0.05: at s = 0 an orbital has no tau, and quotients of it have no value."""
    one = jnp.ones_like(p.zeta)
    return jnp.abs(f.f_c(replace(p, s=jnp.maximum(p.s, 0.05), zeta=one, alpha=0.0 * one)))


def high_density(f: Enhancement, p: Points) -> Float[Array, " g"]:
    """|d eps_c / d ln r_s| in hartree; not for the uniform gas, whose eps_c diverges."""
    dense = replace(p, r_s=jnp.full_like(p.r_s, DENSE), s=jnp.maximum(p.s, 0.5))
    value, slope = slopes(f.f_c, dense)
    return jnp.abs(slope - value) * EXCHANGE / DENSE


def low_density(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return jnp.abs(slopes(f.f_c, replace(p, r_s=jnp.full_like(p.r_s, LOW_DENSITY)))[1])


def lieb_oxford_potential(f: Enhancement, p: Points) -> Float[Array, " g"]:
    value, slope = slopes(f.f_c, p)
    return f.f_x(p) + value + slope - LIEB_OXFORD


def lieb_oxford_energy(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return f.f_x(p) + f.f_c(p) - LIEB_OXFORD


def spin_flip(f: Enhancement, p: Points) -> Float[Array, " g"]:
    return jnp.abs(f.f_xc(p) - f.f_xc(replace(p, zeta=-p.zeta)))


def size_consistency(f: Enhancement, p: Points) -> Float[Array, " g"]:
    """A point's energy density must not know which other points it is evaluated with."""
    half = p.s.shape[0] // 2
    parts = [Points(*(x[cut] for x in vars(p).values())) for cut in (slice(half), slice(half, None))]
    return jnp.abs(f.f_xc(p) - jnp.concatenate([f.f_xc(part) for part in parts if part.s.size]))
