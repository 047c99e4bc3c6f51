"""The level of a reference calculation: its method and basis sets, and the limit that they point to."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from dqc.names import nearest

METHODS = ("ccsd(t)", "ccsd", "fci")
EXPONENT = 1.63  # of the Hartree-Fock energy's exponential convergence
_CARDINAL = {"d": 2, "t": 3, "q": 4, "5": 5, "6": 6}
_FAMILY = re.compile(r"((?:aug-|jul-|jun-)?cc-p(?:c|wc)?v)([dtq56])(z(?:-\w+)?)")


@dataclass(frozen=True)
class Level:
    """Which wave function, in which basis sets; with two of them, extrapolated to the basis-set limit.

    ``method`` is "ccsd(t)", "ccsd" or "fci". Open shells start from unrestricted Hartree-Fock, and all with
    ``unrestricted`` do. ``frozen_core`` leaves the noble-gas core uncorrelated. With ``focal_point`` only MP2
    is computed in the larger basis set: E_corr = E_MP2(CBS) + [E_corr - E_MP2](smaller set), see
    A. G. Császár, W. D. Allen, H. F. Schaefer, J. Chem. Phys. 108, 9751 (1998), doi:10.1063/1.476449.

    Raises ``ValueError`` for unknown methods and for basis sets between which nothing can be extrapolated.
    """

    method: str = "ccsd(t)"
    basis: tuple[str, ...] = ("cc-pvtz", "cc-pvqz")
    frozen_core: bool = True
    focal_point: bool = False
    unrestricted: bool = False

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            found = nearest(self.method, METHODS)
            raise ValueError(f"method={self.method!r} is not one of {', '.join(METHODS)}{found}")
        if len(self.basis) not in (1, 2):
            raise ValueError(f"{len(self.basis)} basis sets: one is expected, or two to extrapolate between")
        if self.focal_point and len(self.basis) == 1:
            raise ValueError("focal_point needs two basis sets: MP2 is computed in the larger one")
        if len(self.basis) == 2:
            self.cardinals  # noqa: B018  (raises)

    @property
    def cardinals(self) -> tuple[int, int]:
        """The cardinal numbers X < Y of the two basis sets; raises ``ValueError`` where there are none."""
        found = [_FAMILY.fullmatch(name.lower()) for name in self.basis]
        families = {(match[1], match[3]) if match else None for match in found}
        X, Y = (_CARDINAL[match[2]] if match else 0 for match in found)
        if None in families or len(families) > 1 or X >= Y:
            raise ValueError(
                f"no extrapolation from {' to '.join(self.basis)}: two correlation-consistent sets of one "
                "family are expected, the smaller first, such as cc-pvtz cc-pvqz"
            )
        return X, Y

    def __str__(self) -> str:
        core = "frozen core" if self.frozen_core else "all electrons"
        core += ", unrestricted" if self.unrestricted else ""
        method, basis = self.method.upper(), ", ".join(self.basis)
        if len(self.basis) == 1:
            return f"{method}/{basis}, {core}"
        if self.focal_point:
            return f"MP2/CBS({basis}) + [{method} - MP2]/{self.basis[0]}, {core}"
        return f"{method}/CBS({basis}), {core}"


def extrapolate_hartree_fock(energies: Sequence[float], cardinals: Sequence[int]) -> float:
    """The limit of E_X = E + A exp(-1.63 X) through two points.

    A. Halkier et al., Chem. Phys. Lett. 302, 437 (1999), doi:10.1016/S0009-2614(99)00179-7.
    """
    q = math.exp(-EXPONENT * (cardinals[1] - cardinals[0]))
    return (energies[1] - q * energies[0]) / (1.0 - q)


def extrapolate_correlation(energies: Sequence[float], cardinals: Sequence[int]) -> float:
    """The limit of E_X = E + A X^-3 through two points.

    T. Helgaker, W. Klopper, H. Koch, J. Noga, J. Chem. Phys. 106, 9639 (1997), doi:10.1063/1.473863.
    """
    x, y = (float(X) ** 3 for X in cardinals)
    return (y * energies[1] - x * energies[0]) / (y - x)
