"""Functionals of the literature: sums of kernels whose constants can be made trainable."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.types import pytree, static
from dqc.xc import attenuated, gga, lda, lyp, pbe, r2scan, scan, tpss
from dqc.xc.algebra import RUNGS, Algebra
from dqc.xc.features import Features
from dqc.xc.functional import Needs, Rung
from dqc.xc.variables import variables


class Kernel(NamedTuple):
    """One exchange or correlation energy density; its constants are its keyword arguments."""

    rung: Rung
    exchange: bool  # a function of one spin channel, to be summed over them; else of both
    evaluate: Callable[..., Array]

    def constants(self) -> dict[str, Any]:
        """The literature constants by name, with their printed values."""
        parameters = inspect.signature(self.evaluate).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


KERNELS: dict[str, Kernel] = {
    "lda_x": Kernel("lda", True, lda.slater),
    "lda_c_pw": Kernel("lda", False, lda.pw92),
    "lda_c_pw_mod": Kernel("lda", False, lda.pw92_modified),
    "lda_c_vwn": Kernel("lda", False, lda.vwn5),
    "lda_c_vwn_rpa": Kernel("lda", False, lda.vwn_rpa),
    "gga_x_pbe": Kernel("gga", True, gga.pbe),
    "gga_x_pbe_r": Kernel("gga", True, gga.revpbe),
    "gga_x_rpbe": Kernel("gga", True, gga.rpbe),
    "gga_x_b88": Kernel("gga", True, gga.b88),
    "gga_x_ityh": Kernel("gga", True, attenuated.short_range_b88),
    "gga_x_wpbeh": Kernel("gga", True, attenuated.short_range_wpbe),
    "gga_c_pbe": Kernel("gga", False, pbe.pbe_correlation),
    "gga_c_lyp": Kernel("gga", False, lyp.lyp),
    "mgga_x_tpss": Kernel("mgga", True, tpss.tpss_exchange),
    "mgga_c_tpss": Kernel("mgga", False, tpss.tpss_correlation),
    "mgga_x_scan": Kernel("mgga", True, scan.scan_exchange),
    "mgga_c_scan": Kernel("mgga", False, scan.scan_correlation),
    "mgga_x_r2scan": Kernel("mgga", True, r2scan.r2scan_exchange),
    "mgga_c_r2scan": Kernel("mgga", False, r2scan.r2scan_correlation),
}


class Affine(NamedTuple):
    """A coefficient: a number plus multiples of named mixing parameters."""

    constant: float = 1.0
    slopes: tuple[tuple[str, float], ...] = ()

    def __call__(self, mixing: dict[str, Any]) -> Any:
        return sum((c * mixing[name] for name, c in self.slopes), self.constant)

    def scaled(self, factor: float) -> Affine:
        return Affine(factor * self.constant, tuple((name, factor * c) for name, c in self.slopes))


class Term(NamedTuple):
    """A coefficient times a kernel, or times exact exchange (``kernel`` is then its omega)."""

    kernel: str | float
    weight: Affine = Affine()
    fixed: tuple[tuple[str, float], ...] = ()  # constants that differ from the kernel's own

    @property
    def exchange(self) -> bool:
        """Whether it is exchange, exact or not, and no correlation."""
        return KERNELS[self.kernel].exchange if isinstance(self.kernel, str) else True


class Recipe(NamedTuple):
    """What a name stands for: terms, and the mixing parameters in their coefficients."""

    terms: tuple[Term, ...]
    mixing: tuple[tuple[str, float], ...] = ()

    def constants(self) -> dict[str, Any]:
        """All named constants: bare where only one kernel has the name, else ``kernel.name``."""
        found: dict[str, list[tuple[str, Any]]] = {}
        for term in self.terms:
            if isinstance(term.kernel, str):
                for name, value in (KERNELS[term.kernel].constants() | dict(term.fixed)).items():
                    found.setdefault(name, []).append((f"{term.kernel}.{name}", value))
        named: dict[str, Any] = dict(self.mixing)
        for name, owners in found.items():
            if len(owners) == 1 and name not in named:
                named[name] = owners[0][1]
            else:
                named.update(owners)
        return {name: value for name, value in named.items() if not name.endswith("omega")}


@pytree
class Literature(Algebra):
    """A functional of the literature.

    E_xc = sum_g w_g sum_t a_t e_t(g) + sum_k a_k E_x^HF(omega_k); ``trained`` holds the constants
    that were asked to be leaves, by the names of :meth:`Recipe.constants`.
    """

    trained: dict[str, Float[Array, "..."]]
    recipe: Recipe = static()

    @property
    def needs(self) -> Needs:
        kernels = [t.kernel for t in self.recipe.terms]
        rungs = [KERNELS[k].rung for k in kernels if isinstance(k, str)]
        omegas = {float(k) for k in kernels if not isinstance(k, str)}
        return Needs(max(rungs, key=RUNGS.index, default="none"), tuple(sorted(omegas)))

    def exchange(self) -> dict[float, Float[Array, ""]]:
        """Coefficients of exact exchange by omega (0: full range, omega > 0: long range)."""
        mixing = self._mixing()
        total: dict[float, Any] = {}
        for term in self.recipe.terms:
            if not isinstance(term.kernel, str):
                total[term.kernel] = total.get(term.kernel, 0.0) + term.weight(mixing)
        return {omega: jnp.asarray(a, dtype=float) for omega, a in total.items()}

    def __call__(self, features: Features) -> Float[Array, " g"]:
        """Energy density in hartree/bohr^3."""
        v, mixing = variables(features), self._mixing()
        e = jnp.zeros_like(v.total.n)
        for term in self.recipe.terms:
            if isinstance(term.kernel, str):
                e = e + term.weight(mixing) * _evaluate(term.kernel, v, self._constants(term))
        return jnp.where(v.total.live, e, 0.0)

    def _mixing(self) -> dict[str, Any]:
        return {name: self.trained.get(name, value) for name, value in self.recipe.mixing}

    def _constants(self, term: Term) -> dict[str, Any]:
        own = KERNELS[term.kernel].constants() | dict(term.fixed)  # type: ignore[index]
        return {
            name: self.trained.get(f"{term.kernel}.{name}", self.trained.get(name, value))
            for name, value in own.items()
        }


def _evaluate(name: str, v: Any, constants: dict[str, Any]) -> Array:
    kernel = KERNELS[name]
    if not kernel.exchange:
        return kernel.evaluate(v, **constants)
    parts = [jnp.where(c.live, kernel.evaluate(c, **constants), 0.0) for c in v.channels]
    return 2.0 * parts[0] if len(parts) == 1 else parts[0] + parts[1]


def literature(recipe: Recipe, trainable: tuple[str, ...] = ()) -> Literature:
    """Build the functional of a recipe, with the constants in ``trainable`` as leaves.

    Raises a ``ValueError`` that lists the constants when one of the names is not among them.
    """
    known = recipe.constants()
    for name in trainable:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise ValueError(
                f"no constant {name!r} in this functional{hint}; it has: {', '.join(known) or 'none'}"
            )
    return Literature({name: jnp.asarray(known[name], dtype=float) for name in trainable}, recipe)
