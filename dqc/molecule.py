"""The molecule: which nuclei, where, and how many electrons of each spin. Host side, no JAX."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from dqc.constants import ANGSTROM, BOHR_IN_ANGSTROM, NUMBERS
from dqc.names import nearest
from dqc.xyz import Geometry, element, parse_inline, parse_xyz

_COINCIDENT = 0.1  # bohr; the united-atom region, where no Gaussian basis set is meant to work

Unit = Literal["angstrom", "bohr"]


@dataclass(frozen=True, eq=False, init=False)
class Molecule:
    """Nuclei and electrons, immutable; coordinates in bohr, ``spin`` = 2S unpaired electrons."""

    symbols: tuple[str, ...]
    coords: Float[np.ndarray, "a x"] = field(repr=False)
    charge: int
    spin: int

    def __init__(
        self, symbols: Sequence[str], coords: ArrayLike, charge: int = 0, spin: int | None = None
    ) -> None:
        """Check and take over the nuclei (coordinates in bohr, copied), charge and spin.

        ``spin=None`` means the lowest possible one, 0 or 1 by the parity of the electron count (so O2
        and CH2 need ``spin=2`` said). Raises ValueError for an unknown element, coordinates that are
        missing, not finite or shared by two atoms, and a charge and spin the electrons cannot have.
        """
        symbols = tuple(element(str(name), f"atom {number}") for number, name in enumerate(symbols, start=1))
        charge = _integer("charge", charge)
        electrons = sum(NUMBERS[symbol] for symbol in symbols) - charge
        set_field = object.__setattr__  # the class is frozen for everyone else
        set_field(self, "symbols", symbols)
        set_field(self, "coords", _coordinates(symbols, coords))
        set_field(self, "charge", charge)
        set_field(self, "spin", _spin(electrons, charge, spin))

    @classmethod
    def from_xyz(cls, path: str | Path, charge: int | None = None, spin: int | None = None) -> Molecule:
        """Read an xyz file (angstrom).

        ``charge=`` and ``spin=`` in its comment line hold where the argument is None; where both are
        silent the charge is 0 and the spin the lowest possible. Raises FileNotFoundError with the
        nearest file names, and ValueError with the line at fault.
        """
        return cls._from_geometry(parse_xyz(_read(Path(path)), str(path)), "angstrom", charge, spin)

    @classmethod
    def from_string(
        cls, text: str, unit: Unit = "angstrom", charge: int | None = None, spin: int | None = None
    ) -> Molecule:
        """Read atoms separated by ``;`` or line ends: ``from_string("H 0 0 0; H 0 0 0.74")``."""
        return cls._from_geometry(parse_inline(text), unit, charge, spin)

    @classmethod
    def from_pyscf(cls, mol: Any) -> Molecule:
        """Take over the atoms, charge and spin of a built ``pyscf.gto.Mole`` (not its basis)."""
        if mol.natm == 0:
            raise ValueError("the PySCF molecule has no atoms: call its build() first")
        symbols = tuple(mol.atom_pure_symbol(index) for index in range(mol.natm))
        return cls(symbols, mol.atom_coords(unit="Bohr"), mol.charge, mol.spin)

    @classmethod
    def from_ase(cls, atoms: Any, charge: int | None = None, spin: int | None = None) -> Molecule:
        """Take over an ``ase.Atoms``, which is in angstrom and must not be periodic.

        Where the argument is None, ``atoms.info["charge"]`` and ``["spin"]`` hold (2S, as here); without
        those, the sum of the initial charges and the sum of the initial magnetic moments where set.
        """
        if any(atoms.pbc):
            raise ValueError("the ASE atoms are periodic and a molecule is expected: set atoms.pbc = False")
        moments = atoms.get_initial_magnetic_moments()
        if charge is None:
            charge = atoms.info.get("charge", _rounded(atoms.get_initial_charges().sum()))
        if spin is None:
            spin = atoms.info.get("spin", abs(_rounded(moments.sum())) if moments.any() else None)
        spin = None if spin is None else _integer("spin", spin)  # ASE reads NumPy's integers
        positions = atoms.get_positions() * ANGSTROM
        return cls(atoms.get_chemical_symbols(), positions, _integer("charge", charge), spin)

    @classmethod
    def _from_geometry(cls, geometry: Geometry, unit: Unit, charge: int | None, spin: int | None) -> Molecule:
        scales = {"angstrom": ANGSTROM, "bohr": 1.0}
        if unit not in scales:
            raise ValueError(f"unknown unit {unit!r}: 'angstrom' or 'bohr' is expected")
        charge = geometry.charge if charge is None else charge
        spin = geometry.spin if spin is None else spin
        coords = np.asarray(geometry.positions, dtype=float) * scales[unit]
        return cls(geometry.symbols, coords, charge or 0, spin)

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers."""
        return tuple(NUMBERS[symbol] for symbol in self.symbols)

    @property
    def n_electrons(self) -> int:
        """Electrons in all, those that an effective core potential may replace included."""
        return sum(self.numbers) - self.charge

    @property
    def formula(self) -> str:
        """The formula in Hill's order (carbon, hydrogen, then by alphabet), without the charge."""
        counts = Counter(self.symbols)
        first = [symbol for symbol in ("C", "H") if symbol in counts] if "C" in counts else []
        order = first + sorted(set(counts) - set(first))
        return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in order)

    def to_xyz(self) -> str:
        """The molecule as an xyz text in angstrom, its charge and spin in the comment line."""
        rows = [
            f"{symbol:<2} {x:18.12f} {y:18.12f} {z:18.12f}"
            for symbol, (x, y, z) in zip(self.symbols, self.coords * BOHR_IN_ANGSTROM, strict=True)
        ]
        return "\n".join([str(len(rows)), f"charge={self.charge} spin={self.spin}", *rows]) + "\n"


def _read(path: Path) -> str:
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, and an xyz file is expected")
    if not path.exists():
        folder = path.parent
        if not folder.is_dir():
            raise FileNotFoundError(f"no file {path}: there is no folder {folder}")
        raise FileNotFoundError(
            f"no file {path}{nearest(path.name, (entry.name for entry in folder.iterdir()))}"
        )
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text file, and an xyz file is expected") from None


def _integer(name: str, value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise ValueError(f"{name}={value!r} should be an integer") from None


def _rounded(total: float) -> int:
    if abs(total - round(total)) > 1e-3:
        raise ValueError(f"the ASE atoms' initial charges or moments add up to {total:g}, not to an integer")
    return round(total)


def _coordinates(symbols: Sequence[str], given: Any) -> Float[np.ndarray, "a x"]:
    """A read-only copy, checked."""
    if not symbols:
        raise ValueError("the molecule is empty: at least one atom is expected")
    coords = np.array(given, dtype=float)
    if coords.shape != (len(symbols), 3):
        raise ValueError(
            f"coordinates of shape {coords.shape} for {len(symbols)} atoms: ({len(symbols)}, 3) is expected"
        )
    bad = np.flatnonzero(~np.isfinite(coords).all(axis=1))
    if bad.size:
        atom = int(bad[0])
        raise ValueError(
            f"atom {atom + 1} ({symbols[atom]}) has coordinates that are not finite: {coords[atom]}"
        )
    _refuse_coincident(symbols, coords)
    coords.setflags(write=False)
    return coords


def _refuse_coincident(symbols: Sequence[str], coords: Float[np.ndarray, "a x"]) -> None:
    distances = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    np.fill_diagonal(distances, np.inf)
    p, q = np.unravel_index(distances.argmin(), distances.shape)
    if distances[p, q] < _COINCIDENT:
        length = distances[p, q] * BOHR_IN_ANGSTROM
        raise ValueError(
            f"atoms {p + 1} ({symbols[p]}) and {q + 1} ({symbols[q]}) coincide: they are {length:.4f} "
            f"angstrom apart, and at least {_COINCIDENT * BOHR_IN_ANGSTROM:.2f} is expected"
        )


def _spin(electrons: int, charge: int, given: Any) -> int:
    if electrons < 1:
        raise ValueError(f"charge={charge} leaves {electrons} electrons: at least one is expected")
    if given is None:
        return electrons % 2
    spin = _integer("spin", given)
    possible = range(electrons % 2, electrons + 1, 2)
    if spin not in possible:
        raise ValueError(
            f"spin={spin} with charge={charge} is impossible for {electrons} electrons: "
            f"spin counts unpaired electrons (2S) and can be {_listed(possible)}"
        )
    return spin


def _listed(values: Iterable[int]) -> str:
    words = [str(value) for value in values]
    return ", ".join(words) if len(words) < 6 else f"{', '.join(words[:3])}, ... {words[-1]}"
