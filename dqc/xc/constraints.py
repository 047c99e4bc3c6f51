"""Exact conditions that hold at every point, as signed violations and as penalties, for any functional.

A condition is a statement about the enhancement factors F_x and F_c at given (r_s, s, zeta, alpha), by
:class:`dqc.xc.enhancement.Enhancement`. Positive violations are violations; nothing but features is seen,
and everything is differentiable in the functional's leaves. The conditions are sufficient for those on the
energy, not necessary: Pederson, Burke, arXiv:2303.01766.

Conditions that need a density or a field are in :mod:`dqc.losses`. Not all agree with one another:
``CONFLICTS`` says which do not, and ``RECOMMENDED`` (as ``names="recommended"``) is a set that does. The
conjecture T_c <= -E_c is left out of it since it is one, and the gradient coefficient 10/81 since no GGA
with it is good for molecules.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.names import nearest
from dqc.xc import pointwise
from dqc.xc.box import Points, sample
from dqc.xc.enhancement import Enhancement, enhancement
from dqc.xc.functional import Functional, Rung
from dqc.xc.splitting import HighDensity

Violation = Callable[[Enhancement, Points], Array]


class Condition(NamedTuple):
    """An exact condition that can be tested at a point."""

    name: str
    statement: str
    part: Literal["x", "c", "xc"]  # what it is about: exchange, correlation, or their sum
    rung: Rung  # the lowest one that can satisfy it, together with the uniform gas
    source: str
    tolerance: float  # a violation up to here is round-off, or the distance to a limit
    violation: Violation  # of each point; positive where the condition fails


_PB = "arXiv:2303.01766"
_SCAN = "doi:10.1103/PhysRevLett.115.036402"
_PBE = "doi:10.1103/PhysRevLett.77.3865"
_SPIN = "doi:10.1103/PhysRevA.20.397"

CONDITIONS: dict[str, Condition] = {
    c.name: c
    for c in (
        Condition("exchange_sign", "E_x <= 0", "x", "lda", _SCAN, 1e-9, pointwise.exchange_sign),
        Condition(
            "spin_scaling",
            "E_x[n_a, n_b] = (E_x[2 n_a] + E_x[2 n_b]) / 2",
            "x",
            "lda",
            _SPIN,
            1e-6,
            pointwise.spin_scaling,
        ),
        Condition(
            "uniform_scaling",
            "F_x does not depend on r_s",
            "x",
            "lda",
            _SCAN,
            1e-5,
            pointwise.uniform_scaling,
        ),
        Condition(
            "uniform_gas",
            "F_x = 1 and F_c of the uniform gas at s = 0, alpha = 1",
            "xc",
            "lda",
            "doi:10.1103/PhysRevB.45.13244",
            1e-5,
            pointwise.uniform_gas,
        ),
        Condition(
            "gradient_expansion",
            "F_x = 1 + 10/81 s^2 for slowly varying densities",
            "x",
            "gga",
            _SCAN,
            1e-4,
            pointwise.gradient_expansion,
        ),
        Condition(
            "nonuniform_scaling",
            "F_x falls as s^(-1/2) for large s",
            "x",
            "gga",
            _SCAN,
            1e-2,
            pointwise.nonuniform_scaling,
        ),
        Condition("lieb_oxford", "F_x <= 1.804 (at zeta = 0)", "x", "lda", _PBE, 1e-9, pointwise.local_bound),
        Condition(
            "two_electron_bound",
            "F_x <= 1.174 where alpha = 0 (at zeta = 0)",
            "x",
            "lda",
            _SCAN,
            1e-9,
            pointwise.two_electron_bound,
        ),
        Condition("correlation_sign", "E_c <= 0", "c", "lda", _PB, 1e-8, pointwise.correlation_sign),
        Condition(
            "correlation_scaling", "dF_c/dr_s >= 0", "c", "lda", _PB, 1e-7, pointwise.correlation_scaling
        ),
        Condition(
            "kinetic_correlation_bound",
            "r_s dF_c/dr_s <= F_c(infinity) - F_c",
            "c",
            "lda",
            _PB,
            1e-7,
            pointwise.kinetic_bound,
        ),
        Condition(
            "conjectured_kinetic_bound",
            "r_s dF_c/dr_s <= F_c, conjectured",
            "c",
            "lda",
            _PB,
            1e-5,
            pointwise.conjectured_kinetic_bound,
        ),
        Condition(
            "adiabatic_connection",
            "d/dr_s (r_s^2 dF_c/dr_s) >= 0",
            "c",
            "lda",
            _PB,
            1e-7,
            pointwise.adiabatic_connection,
        ),
        Condition(
            "one_electron_correlation",
            "F_c = 0 at zeta = 1, alpha = 0",
            "c",
            "mgga",
            _SCAN,
            1e-6,
            pointwise.one_electron_correlation,
        ),
        Condition(
            "high_density",
            "eps_c is finite as r_s -> 0 (s > 0)",
            "c",
            "gga",
            _SCAN,
            2e-3,
            pointwise.high_density,
        ),
        Condition(
            "low_density", "F_c is finite as r_s -> infinity", "c", "lda", _SCAN, 5e-2, pointwise.low_density
        ),
        Condition(
            "lieb_oxford_potential",
            "F_xc + r_s dF_c/dr_s <= 2.27",
            "xc",
            "lda",
            _PB,
            1e-7,
            pointwise.lieb_oxford_potential,
        ),
        Condition("lieb_oxford_energy", "F_xc <= 2.27", "xc", "lda", _PB, 1e-7, pointwise.lieb_oxford_energy),
        Condition(
            "spin_flip", "E_xc[n_a, n_b] = E_xc[n_b, n_a]", "xc", "lda", "symmetry", 1e-9, pointwise.spin_flip
        ),
        Condition(
            "size_consistency",
            "a point's energy density does not know the other points",
            "xc",
            "lda",
            "locality",
            1e-9,
            pointwise.size_consistency,
        ),
    )
}
RECOMMENDED = tuple(n for n in CONDITIONS if n not in ("conjectured_kinetic_bound", "gradient_expansion"))
CONFLICTS: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"tail", "lieb_oxford"}),
        "a GGA with v_x -> -1/r has F_x -> (4 pi / 3) s, above bounds; long-range exact exchange has both",
    ),
    (
        frozenset({"tail", "nonuniform_scaling"}),
        "a GGA with v_x -> -1/r has F_x -> (4 pi / 3) s, which grows; long-range exact exchange has both",
    ),
    (
        frozenset({"fractional_charge", "fractional_spin"}),
        "more exact exchange mends the first and spoils the second: a global hybrid cannot have both",
    ),
)


def violations(
    xc: Functional, points: Points | None = None, names: str | Iterable[str] = "all"
) -> dict[str, Float[Array, " g"]]:
    """By how much each condition is violated at each point, positive where it is; see ``CONDITIONS``.

    ``names`` are conditions, ``"recommended"`` or ``"all"``; of these two presets only what
    :func:`inapplicable` lets through. ``points`` default to :func:`dqc.xc.box.sample`. Raises
    ``ValueError`` for an unknown name, and for a named condition that ``xc`` cannot be asked about.
    """
    points = sample(rung=xc.needs.rung) if points is None else points
    f = enhancement(xc)
    return {name: CONDITIONS[name].violation(f, points) for name in applicable(xc, names)}


def penalties(
    xc: Functional, points: Points | None = None, names: str | Iterable[str] = "recommended"
) -> dict[str, Float[Array, ""]]:
    """mean over the points of max(violation, 0)^2 for each condition; arguments of :func:`violations`."""
    found = violations(xc, points, names)
    return {name: jnp.mean(jax.nn.relu(violation) ** 2) for name, violation in found.items()}


def penalty(
    xc: Functional, points: Points | None = None, names: str | Iterable[str] = "recommended"
) -> Float[Array, ""]:
    """The sum of :func:`penalties`."""
    return sum(penalties(xc, points, names).values(), jnp.zeros(()))


def gradient_coefficient(xc: Functional) -> Float[Array, ""]:
    """mu in F_x = 1 + mu s^2 + ... of slowly varying densities, after integration by parts."""
    return pointwise.gradient_coefficient(enhancement(xc))


def applicable(xc: Functional, names: str | Iterable[str]) -> tuple[str, ...]:
    """Names of conditions, presets spelled out; raises what :func:`violations` does."""
    presets = {"recommended": RECOMMENDED, "all": tuple(CONDITIONS)}
    if isinstance(names, str) and names in presets:
        return tuple(name for name in presets[names] if inapplicable(xc, name) is None)
    wanted = (names,) if isinstance(names, str) else tuple(names)
    for name in wanted:
        if name not in CONDITIONS:
            raise ValueError(f"unknown condition {name!r}{nearest(name, [*CONDITIONS, *presets])}")
        reason = inapplicable(xc, name)
        if reason is not None:
            raise ValueError(f"condition {name!r} cannot be asked of this functional: {reason}")
    return wanted


def inapplicable(xc: Functional, name: str) -> str | None:
    """Why a functional cannot be asked about a condition, or None where it can."""
    part, f = CONDITIONS[name].part, enhancement(xc)
    no_exchange, no_correlation = (g.needs.rung == "none" for g in (f.exchange, f.correlation))
    if name in ("spin_flip", "size_consistency", "uniform_gas") and no_exchange and no_correlation:
        return "it has no semilocal part"
    if name in ("spin_flip", "size_consistency"):
        return None
    if xc.needs.exchange_density and part != "c":
        return "its share of exact exchange varies from point to point, and a point has no exact exchange"
    if f.ranged and isinstance(f.exchange, HighDensity):
        return "its exchange depends on r_s and cannot be told from correlation: give it a method split()"
    if name == "uniform_gas":
        return None
    if no_exchange and part != "c":
        return "its exchange is exact" if xc.needs.omegas else "it has no exchange"
    if no_correlation and part == "c":
        return "it has no correlation"
    if f.ranged and name == "uniform_scaling":
        return "its semilocal exchange is attenuated at a fixed distance"
    return None


def conflicts(names: Iterable[str]) -> list[str]:
    """A sentence for each pair among the names, of conditions and of :mod:`dqc.losses`, that disagree."""
    given = set(names)
    return [f"{' and '.join(sorted(pair))}: {reason}" for pair, reason in CONFLICTS if pair <= given]
