"""Functionals that are not written here, by libxc on the host (through PySCF), with their derivatives.

libxc returns all partial derivatives of n eps(rho, sigma, tau) up to an order. One callback evaluates
order k; the rule of differentiation contracts order k + 1 with the tangent, so that forward and reverse
mode and their compositions work to third order.
"""

from __future__ import annotations

import re
from functools import lru_cache, partial
from itertools import combinations_with_replacement
from math import comb
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.types import pytree, static
from dqc.xc.algebra import Algebra
from dqc.xc.features import Features
from dqc.xc.functional import Needs

_RUNGS = {"HF": "none", "LDA": "lda", "GGA": "gga", "MGGA": "mgga"}
_ARGUMENTS = {"lda": 2, "gga": 5, "mgga": 7}  # rho_a rho_b [sigma_aa sigma_ab sigma_bb [tau_a tau_b]]


def _libxc() -> Any:
    try:
        from pyscf.dft import libxc
    except ImportError as error:
        raise ValueError(
            "this functional is evaluated by libxc through PySCF, which cannot be imported"
        ) from error
    return libxc


def names() -> list[str]:
    """Every name that PySCF's parser knows, in lower case (none where PySCF is not installed)."""
    try:
        libxc = _libxc()
    except ValueError:
        return []
    return sorted({str(k).lower() for k in (*libxc.XC_CODES, *libxc.XC_ALIAS)})


def functional(name: str) -> Libxc:
    """The functional that PySCF's parser makes of this name.

    Raises ``KeyError`` for an unknown name, and ``ValueError`` for one whose energy needs more than
    density, gradient, kinetic energy density and exact exchange.
    """
    libxc = _libxc()
    if re.search(r"-d[34]", name, re.I) and "wb97x-d3" not in name.lower():
        raise ValueError(f"{name!r} asks for a dispersion correction, which is not part of a functional here")
    code = re.sub(r"\s", "", name)
    try:
        rung = _RUNGS[libxc.xc_type(code)]
        omega, alpha, beta = libxc.rsh_coeff(code)
        hybrid = libxc.hybrid_coeff(code)
        nonlocal_, laplacian = libxc.is_nlc(code), libxc.needs_laplacian(code)
    except (KeyError, ValueError, AssertionError, IndexError, NotImplementedError) as error:
        raise KeyError(name) from error
    if nonlocal_ or laplacian:
        what = "nonlocal correlation (VV10)" if nonlocal_ else "the Laplacian of the density"
        raise ValueError(f"{name!r} needs {what}, which is not supported")
    # PySCF: short range alpha + beta, long range alpha; without omega, the hybrid coefficient
    exact = {0.0: alpha + beta, float(omega): -beta} if omega else {0.0: hybrid}
    return Libxc(code, rung, tuple((w, float(a)) for w, a in exact.items() if a))


@pytree
class Libxc(Algebra):
    """A functional evaluated by libxc on the host; it has no parameters."""

    name: str = static()
    rung: str = static()
    exact: tuple[tuple[float, float], ...] = static()

    @property
    def needs(self) -> Needs:
        return Needs(self.rung, tuple(sorted(omega for omega, _ in self.exact)))  # type: ignore[arg-type]

    def exchange(self) -> dict[float, Float[Array, ""]]:
        """Coefficients of exact exchange by omega (0: full range, omega > 0: long range)."""
        return {omega: jnp.asarray(a, dtype=float) for omega, a in self.exact}

    def split(self) -> tuple[Libxc, Libxc] | None:
        """Exchange, exact exchange included, and correlation; None where libxc has them in one piece."""
        libxc = _libxc()
        names = {number: key for key, number in libxc.XC_CODES.items() if isinstance(number, int)}
        sides: dict[str, list[str]] = {"_X_": [], "_C_": []}
        for number, factor in libxc.parse_xc(self.name)[1]:
            kind = next((k for k in sides if k in names.get(number, "")), None)
            if kind is None:
                return None
            sides[kind].append(f"{factor!r}*{names[number]}")
        codes = ("+".join(sides["_X_"]) + ",", "," + "+".join(sides["_C_"]))
        rungs = ("none" if len(code) == 1 else _RUNGS[libxc.xc_type(code)] for code in codes)
        exchange, correlation = zip(codes, rungs, (self.exact, ()), strict=True)
        return Libxc(*exchange), Libxc(*correlation)

    def __call__(self, features: Features) -> Float[Array, " g"]:
        """Energy density in hartree/bohr^3."""
        rho, grad, tau = features.rho, features.grad, features.tau
        if self.rung == "none":
            return jnp.zeros_like(rho[0])
        rows = [rho[0], rho[1]]
        if self.rung in ("gga", "mgga"):
            products = ((0, 0), (0, 1), (1, 1))
            rows += [jnp.sum(grad[i] * grad[j], axis=0) for i, j in products]
        if self.rung == "mgga":
            rows += [tau[0], tau[1]]
        return _partials(self.name, self.rung, 0, jnp.stack(rows))[0]


@partial(jax.custom_jvp, nondiff_argnums=(0, 1, 2))
def _partials(name: str, rung: str, order: int, x: Float[Array, "v g"]) -> Float[Array, "k g"]:
    """All partial derivatives of n eps of one order, in the order of :func:`_multi_indices`."""
    if order > 3:
        raise NotImplementedError(f"libxc's derivatives of {name!r} are used to third order only")
    result = jax.ShapeDtypeStruct((len(_multi_indices(rung, order)), x.shape[-1]), x.dtype)
    return jax.pure_callback(partial(_evaluate, name, rung, order), result, x, vmap_method="expand_dims")


@_partials.defjvp
def _partials_jvp(name, rung, order, primals, tangents):
    (x,), (dx,) = primals, tangents
    higher = {index: k for k, index in enumerate(_multi_indices(rung, order + 1))}
    table = [
        [higher[tuple(sorted((*index, i)))] for i in range(_ARGUMENTS[rung])]
        for index in _multi_indices(rung, order)
    ]
    slopes = _partials(name, rung, order + 1, x)[np.asarray(table)]
    return _partials(name, rung, order, x), jnp.sum(slopes * dx, axis=1)


@lru_cache
def _multi_indices(rung: str, order: int) -> tuple[tuple[int, ...], ...]:
    return tuple(combinations_with_replacement(range(_ARGUMENTS[rung]), order))


def _evaluate(name: str, rung: str, order: int, x: Any) -> np.ndarray:
    """On the host: libxc at points whose densities are real; zero where both spins are empty."""
    x = np.asarray(x)
    points = np.moveaxis(x, -2, 0).reshape(x.shape[-2], -1).astype(float)
    out = _host(name, rung, order, points)
    out = np.moveaxis(out.reshape(-1, *x.shape[:-2], x.shape[-1]), 0, -2)
    return np.ascontiguousarray(out, dtype=x.dtype)


def _host(name: str, rung: str, order: int, x: np.ndarray) -> np.ndarray:
    """Partial derivatives of ``order`` from PySCF, whose array holds all orders in xcfun's convention:
    for order k the combinations with replacement of the arguments, lexicographically."""
    libxc = _libxc()
    rows = _density_rows(rung, x)
    out = libxc.eval_xc1(name, rows, spin=1, deriv=order)
    if order == 0:
        return out[:1] * (x[0] + x[1])
    start = comb(_ARGUMENTS[rung] + order - 1, order - 1)
    return out[start:]


def _density_rows(rung: str, x: np.ndarray) -> np.ndarray:
    """A density, gradient and tau with the invariants ``x``: the gradients lie in the x-y plane."""
    if rung == "lda":
        return np.maximum(x, 0.0)
    rows = np.zeros((2, 5 if rung == "mgga" else 4, x.shape[1]))
    rows[:, 0] = np.maximum(x[:2], 0.0)
    a = np.sqrt(np.maximum(x[2], 0.0))
    along = np.divide(x[3], a, out=np.zeros_like(a), where=a > 0.0)
    rows[0, 1] = a
    rows[1, 1] = along
    rows[1, 2] = np.sqrt(np.maximum(x[4] - along**2, 0.0))
    if rung == "mgga":
        rows[:, 4] = x[5:7]
    return rows
