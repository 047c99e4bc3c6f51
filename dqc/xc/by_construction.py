"""Exact conditions that a functional can be built to satisfy, and what each of them asks for.

``BY_CONSTRUCTION`` says of each the lowest rung of functionals on which it can hold by construction, and
``HELD`` which of them the literature's kernels satisfy. A neural functional multiplies the energy density
of its parent by factors that keep what the parent satisfies; it cannot mend what the parent does not.
:mod:`dqc.xc.constraints` measures conditions, of any functional; here is what is known without measuring.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from dqc.names import nearest

LADDER = ("lda", "gga", "mgga", "hybrid", "range_separated", "local_hybrid")


class Condition(NamedTuple):
    """An exact condition: a sentence, the lowest rung that can have it built in, and its source."""

    sentence: str
    rung: str
    source: str
    concerns: str  # "exchange", "correlation", "both", or "exact" for exact exchange


BY_CONSTRUCTION: dict[str, Condition] = {
    "spin_scaling": Condition(
        "E_x[n_up, n_dn] = (E_x[2 n_up] + E_x[2 n_dn]) / 2",
        "lda",
        "doi:10.1103/PhysRevA.20.397",
        "exchange",
    ),
    "uniform_scaling": Condition(
        "E_x[n_g] = g E_x[n] for n_g(r) = g^3 n(g r)", "lda", "doi:10.1103/PhysRevA.32.2010", "exchange"
    ),
    "exchange_sign": Condition("E_x <= 0", "lda", "doi:10.1103/PhysRevLett.115.036402", "exchange"),
    "correlation_sign": Condition("E_c <= 0", "lda", "doi:10.1103/PhysRevLett.115.036402", "correlation"),
    "uniform_gas": Condition(
        "F_x = 1 and the correlation of the uniform electron gas where the density is uniform",
        "gga",
        "doi:10.1103/PhysRevB.45.13244",
        "both",
    ),
    "gradient_expansion": Condition(
        "the second-order gradient coefficients of the parent stay as they are",
        "gga",
        "doi:10.1103/PhysRevLett.115.036402",
        "both",
    ),
    "lieb_oxford": Condition(
        "F_x <= 1.804, which implies the Lieb-Oxford bound",
        "gga",
        "doi:10.1103/PhysRevLett.77.3865",
        "exchange",
    ),
    "two_electron_bound": Condition(
        "F_x <= 1.174 where alpha = 0, the bound for two electrons",
        "mgga",
        "doi:10.1063/1.4870763",
        "exchange",
    ),
    "one_electron_correlation": Condition(
        "E_c = 0 for one electron", "mgga", "doi:10.1103/PhysRevLett.82.2544", "correlation"
    ),
    "long_range_exchange": Condition(
        "v_xc -> -1/r: all of the long-range exchange is exact",
        "range_separated",
        "doi:10.1063/1.1383587",
        "exact",
    ),
    "one_electron_exchange": Condition(
        "E_x = -E_H for one electron: no self-interaction", "local_hybrid", "doi:10.1063/1.1528936", "exact"
    ),
}

# These hold for whatever is a symmetric function of the two spins at each point.
ALWAYS = {
    "spin_flip": "E[n_up, n_dn] = E[n_dn, n_up]",
    "size_consistency": "E of two distant fragments is the sum of their energies",
}

_SCALING = {"spin_scaling", "uniform_scaling", "exchange_sign"}
_GRADIENT = {"uniform_gas", "gradient_expansion"}
HELD: dict[str, set[str]] = {
    "lda_x": _SCALING | {"uniform_gas", "lieb_oxford"},
    "gga_x_pbe": _SCALING | _GRADIENT | {"lieb_oxford"},
    "gga_x_pbe_r": _SCALING | _GRADIENT,
    "gga_x_rpbe": _SCALING | _GRADIENT | {"lieb_oxford"},
    "gga_x_b88": _SCALING | _GRADIENT,
    # of a Coulomb operator that has a length of its own: with its long-range part they hold again
    "gga_x_ityh": {"spin_scaling", "exchange_sign"} | _GRADIENT,
    "gga_x_wpbeh": {"spin_scaling", "exchange_sign", "lieb_oxford"} | _GRADIENT,
    "mgga_x_tpss": _SCALING | _GRADIENT | {"lieb_oxford"},
    "mgga_x_scan": _SCALING | _GRADIENT | {"lieb_oxford", "two_electron_bound"},
    "mgga_x_r2scan": _SCALING | _GRADIENT | {"lieb_oxford", "two_electron_bound"},
    "lda_c_pw": {"correlation_sign", "uniform_gas"},
    "lda_c_pw_mod": {"correlation_sign", "uniform_gas"},
    "lda_c_vwn": {"correlation_sign", "uniform_gas"},
    "lda_c_vwn_rpa": {"correlation_sign"},
    "gga_c_pbe": {"correlation_sign"} | _GRADIENT,
    "gga_c_lyp": {"one_electron_correlation"},
    "mgga_c_tpss": {"correlation_sign", "one_electron_correlation"} | _GRADIENT,
    "mgga_c_scan": {"correlation_sign", "one_electron_correlation"} | _GRADIENT,
    "mgga_c_r2scan": {"correlation_sign", "one_electron_correlation"} | _GRADIENT,
}


def possible(name: str, rung: str, exact: str | None) -> bool:
    """Whether a condition can be built in, given the semilocal rung and the kind of exact exchange."""
    condition = BY_CONSTRUCTION[name]
    if condition.concerns == "exact":
        return exact == condition.rung
    return LADDER.index(rung) >= LADDER.index(condition.rung)


def met_by_parent(name: str, exchange: tuple[str, ...], correlation: tuple[str, ...]) -> bool:
    """Whether all kernels of a parent that a condition concerns satisfy it."""
    return all(name in HELD[k] for k in _concerned(name, exchange, correlation))


def _concerned(name: str, exchange: tuple[str, ...], correlation: tuple[str, ...]) -> tuple[str, ...]:
    return {"exchange": exchange, "correlation": correlation, "both": exchange + correlation, "exact": ()}[
        BY_CONSTRUCTION[name].concerns
    ]


def checked(
    constraints: str | Iterable[str],
    rung: str,
    exact: str | None,
    exchange: tuple[str, ...],
    correlation: tuple[str, ...],
) -> frozenset[str]:
    """The names of the conditions to build in; ``"recommended"`` stands for all that can be.

    Raises a ``ValueError`` for an unknown name, for a condition that the rung cannot have, naming the
    lowest that can, and for one that the parent's kernels break.
    """
    if constraints == "recommended":
        able = {n for n in BY_CONSTRUCTION if possible(n, rung, exact)}
        able -= {"spin_scaling"} if exact == "local_hybrid" else set()  # see neural.Neural._share
        return frozenset(n for n in able if met_by_parent(n, exchange, correlation))
    if isinstance(constraints, str):
        raise ValueError(f'constraints={constraints!r} is neither "recommended" nor a tuple of names.')
    names = frozenset(constraints) - set(ALWAYS)
    for name in sorted(names):
        if name not in BY_CONSTRUCTION:
            raise ValueError(f"no exact condition {name!r}{nearest(name, BY_CONSTRUCTION)}")
        condition = BY_CONSTRUCTION[name]
        if not possible(name, rung, exact):
            kind = f"{rung} functional" if exact is None else f"{exact} of {rung} rung"
            raise ValueError(
                f"{name!r} ({condition.sentence}) cannot be built into a {kind}: "
                f"the lowest rung that can have it is {condition.rung!r}."
            )
        if not met_by_parent(name, exchange, correlation):
            broken = [k for k in _concerned(name, exchange, correlation) if name not in HELD[k]]
            good = [k for k, held in HELD.items() if name in held]
            raise ValueError(
                f"{name!r} ({condition.sentence}) does not hold for the parent's {', '.join(broken)}; "
                f"it does for {', '.join(good)}."
            )
    return names
