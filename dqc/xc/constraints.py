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
from dqc.xc.algebra import RUNGS
from dqc.xc.box import Points, sample
from dqc.xc.enhancement import Enhancement, enhancement
from dqc.xc.functional import Functional, Rung
from dqc.xc.splitting import HighDensity


class Condition(NamedTuple):
    """An exact condition that can be tested at a point."""

    name: str
    statement: str
    part: Literal["x", "c", "xc"]  # what it is about: exchange, correlation, or their sum
    rung: Rung  # the lowest one that can satisfy it and be of use
    tolerance: float  # a violation up to here is round-off, or the distance to a limit
    varies: str  # the variables that it is tested over; it sets the others itself
    source: str

    @property
    def violation(self) -> Callable[[Enhancement, Points], Array]:
        """Its violation at each point, positive where it fails."""
        return getattr(pointwise, self.name)


_ALL = "r_s s zeta alpha"
_PB = "arXiv:2303.01766"
_SCAN = "doi:10.1103/PhysRevLett.115.036402"
_PBE = "doi:10.1103/PhysRevLett.77.3865"
_PW = "doi:10.1103/PhysRevB.45.13244"
_SPIN = "doi:10.1103/PhysRevA.20.397"
_FORM = "of a functional's form"

_TABLE = (
    ("exchange_sign", "E_x <= 0", "x", "lda", 1e-9, _ALL, _SCAN),
    ("spin_scaling", "E_x[n_a, n_b] = (E_x[2 n_a] + E_x[2 n_b]) / 2", "x", "lda", 1e-6, _ALL, _SPIN),
    ("uniform_scaling", "F_x does not depend on r_s", "x", "lda", 1e-5, _ALL, _SCAN),
    ("uniform_gas", "F_x = 1 and F_c = PW92 where s = 0, alpha = 1", "xc", "lda", 1e-5, "r_s zeta", _PW),
    ("gradient_expansion", "F_x = 1 + 10/81 s^2 for small gradients", "x", "gga", 1e-4, "", _SCAN),
    ("nonuniform_scaling", "F_x falls as s^(-1/2) for large s", "x", "gga", 1e-2, "", _SCAN),
    ("lieb_oxford", "F_x <= 1.804 at zeta = 0", "x", "lda", 1e-9, _ALL, _PBE),
    ("two_electron_bound", "F_x <= 1.174 at alpha = 0, zeta = 0", "x", "mgga", 1e-9, "r_s s zeta", _SCAN),
    ("correlation_sign", "E_c <= 0", "c", "lda", 1e-8, _ALL, _PB),
    ("correlation_scaling", "dF_c/dr_s >= 0", "c", "lda", 1e-7, _ALL, _PB),
    ("kinetic_correlation_bound", "r_s dF_c/dr_s <= F_c(inf) - F_c", "c", "lda", 1e-7, _ALL, _PB),
    ("conjectured_kinetic_bound", "r_s dF_c/dr_s <= F_c (conjecture)", "c", "lda", 1e-5, _ALL, _PB),
    ("adiabatic_connection", "d/dr_s (r_s^2 dF_c/dr_s) >= 0", "c", "lda", 1e-7, _ALL, _PB),
    ("one_electron_correlation", "F_c = 0 at zeta = 1, alpha = 0", "c", "mgga", 1e-6, "r_s s", _SCAN),
    ("high_density", "eps_c is finite as r_s -> 0, for s > 0", "c", "gga", 2e-3, "s zeta alpha", _SCAN),
    ("low_density", "F_c is finite as r_s -> infinity", "c", "lda", 5e-2, "s zeta alpha", _SCAN),
    ("lieb_oxford_potential", "F_xc + r_s dF_c/dr_s <= 2.27", "xc", "lda", 1e-7, _ALL, _PB),
    ("lieb_oxford_energy", "F_xc <= 2.27", "xc", "lda", 1e-7, _ALL, _PB),
    ("spin_flip", "E_xc[n_a, n_b] = E_xc[n_b, n_a]", "xc", "lda", 1e-9, _ALL, _FORM),
    ("size_consistency", "a point does not know the other points", "xc", "lda", 1e-9, _ALL, _FORM),
)
CONDITIONS = {row[0]: Condition(*row) for row in _TABLE}  # type: ignore[arg-type]
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

    ``names`` are conditions, or a preset: ``"all"`` that :func:`inapplicable` lets through, or of these
    those ``"recommended"`` on the functional's rung. ``points`` default to :func:`dqc.xc.box.sample`. Raises
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
        chosen = [name for name in presets[names] if inapplicable(xc, name) is None]
        height = RUNGS.index("mgga" if names == "all" else xc.needs.rung)
        return tuple(name for name in chosen if RUNGS.index(CONDITIONS[name].rung) <= height)
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
