"""Gaussian basis sets: from a name and a molecule to contracted shells as arrays.

PySCF's basis library is the source of the exponents; from here on a basis is a pytree of arrays,
grouped by angular momentum so that its shapes are all that a compiled program knows of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int

from dqc.molecule import Molecule
from dqc.names import nearest
from dqc.types import pytree

NOWHERE = 2**30  # an index out of every range


@pytree
class Shells:
    """Contracted Gaussian shells of one angular momentum l (its place in ``Basis``).

    An AO is phi(r) = sum_r c_r exp(-a_r |r - R|^2) S_lm(r - R), with S_lm the real solid harmonics
    normalised on the unit sphere. A ghost shell has zero coefficients.
    """

    atom: Int[Array, " h"]  # the atom each shell sits on
    exponents: Float[Array, "h r"]  # bohr^-2; padded with zeros
    coefficients: Float[Array, "h r"]  # include the primitives' norms; padded with zeros
    ao: Int[Array, " h"]  # index of the shell's first AO


Basis = tuple[Shells, ...]  # one entry for each l = 0, 1, 2, ...


def pyscf_mole(
    molecule: Molecule, basis: str | Mapping[str, Any], ecp: str | Mapping[str, Any] | None = "auto"
) -> Any:
    """The PySCF ``Mole`` of a molecule in a basis.

    ``basis`` is a name, or a dictionary from element symbols to names or to PySCF's internal format.
    ``ecp="auto"`` takes the effective core potential that belongs to the basis of an element, where
    there is one; ``None`` takes none. Raises ``ValueError`` for a basis that does not exist or that
    lacks an element of the molecule.
    """
    from pyscf import gto

    elements = sorted(set(molecule.symbols))
    names: dict[str, Any] = dict(basis) if isinstance(basis, Mapping) else dict.fromkeys(elements, basis)
    if missing := [e for e in elements if e not in names]:
        raise ValueError(
            f"The basis dictionary has no entry for {', '.join(missing)}; "
            f"it has {', '.join(names) or 'none'}."
        )
    shells = {e: load_basis(names[e], e) if isinstance(names[e], str) else names[e] for e in elements}
    cores: str | Mapping[str, Any]
    if ecp == "auto":
        cores = {e: core for e in elements if isinstance(names[e], str) and (core := load_ecp(names[e], e))}
    else:
        cores = {} if ecp is None else ecp
    mole = gto.Mole(verbose=0, unit="Bohr", basis=shells, ecp=cores)
    mole.atom = list(zip(molecule.symbols, molecule.coords.tolist(), strict=True))
    mole.charge, mole.spin = molecule.charge, molecule.spin
    return mole.build(dump_input=False, parse_arg=False)


@lru_cache(maxsize=512)
def load_basis(name: str, element: str) -> list:
    """The shells of one element in PySCF's internal format; ``ValueError`` if there are none."""
    from pyscf import gto
    from pyscf.lib.exceptions import BasisNotFoundError

    try:
        shells = gto.basis.load(name, element)
    except (BasisNotFoundError, KeyError, FileNotFoundError, OSError, ValueError):
        shells = None
    if shells:
        return shells
    known = gto.basis.ALIAS | gto.basis.GTH_ALIAS | {k: k for k in gto.basis.USER_BASIS_ALIAS}
    plain = gto.basis._format_basis_name(name)
    if plain in known or gto.basis._is_pople_basis(plain):
        raise ValueError(
            f"The basis {name!r} does not contain {element}; choose one that does, "
            "or give a dictionary by element."
        )
    files = (str(file) for file in known.values() if isinstance(file, str))
    raise ValueError(f"Unknown basis {name!r}{nearest(name, {file.removesuffix('.dat') for file in files})}.")


@lru_cache(maxsize=512)
def load_ecp(name: str, element: str) -> Any:
    """The effective core potential of a basis for an element, or ``None``."""
    from pyscf import gto
    from pyscf.lib.exceptions import BasisNotFoundError

    if gto.charge(element) <= 18:
        return None
    try:
        return gto.basis.load_ecp(name, element)
    except (BasisNotFoundError, KeyError, FileNotFoundError, OSError, ValueError):
        return None


def shells_of(mole: Any) -> Basis:
    """The contracted shells of a PySCF ``Mole``, one group for each angular momentum."""
    first = mole.ao_loc_nr()
    groups: list[list[tuple]] = [[] for _ in range(int(mole._bas[:, 1].max()) + 1)]
    for shell in range(mole.nbas):
        l = mole.bas_angular(shell)
        exponents, coefficients = mole.bas_exp(shell), mole._libcint_ctr_coeff(shell)
        for k in range(mole.bas_nctr(shell)):
            ao = first[shell] + k * (2 * l + 1)
            groups[l].append((mole.bas_atom(shell), exponents, coefficients[:, k], ao))
    return tuple(_stack(group) for group in groups)


def _stack(group: list[tuple]) -> Shells:
    width = max((len(exponents) for _, exponents, _, _ in group), default=1)
    exponents, coefficients = np.zeros((2, len(group), width))
    for row, (_, a, c, _) in enumerate(group):
        exponents[row, : len(a)], coefficients[row, : len(a)] = a, c
    atom = np.array([entry[0] for entry in group], dtype=np.int32)
    ao = np.array([entry[3] for entry in group], dtype=np.int32)
    return Shells(atom=atom, exponents=exponents, coefficients=coefficients, ao=ao)  # type: ignore[arg-type]


def auxiliary_mole(mole: Any, basis: str | Mapping[str, Any], auxbasis: Any, exact_exchange: bool) -> Any:
    """The ``Mole`` of the fitting functions; ``auxbasis=None`` follows PySCF's rule.

    That rule differs between semilocal functionals (a Coulomb fitting set) and hybrids (a
    Coulomb-and-exchange fitting set).
    """
    from pyscf import df

    if auxbasis is None:
        named = mole.copy(deep=False)
        named.basis = basis if isinstance(basis, str) else dict(basis)
        auxbasis = df.make_auxbasis(named, xc="hf" if exact_exchange else "pbe")
    elif isinstance(auxbasis, str):
        auxbasis = {e: load_basis(auxbasis, e) for e in {mole.atom_pure_symbol(i) for i in range(mole.natm)}}
    return df.make_auxmol(mole, auxbasis)
