"""What a data set is made of: molecules, what is known of each, and energies of reactions between them."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from dqc.molecule import Molecule
from dqc.names import nearest


@dataclass(frozen=True, eq=False)
class Density:
    """A one-particle density matrix P_spq, alpha and then beta, in a Gaussian basis known by its name.

    rho_s(r) = sum_pq phi_p(r) P_spq phi_q(r). The orbitals are PySCF's of that basis, in its order;
    :func:`dqc.interop.reference.density_at` evaluates the sum. Raises ``ValueError`` for a matrix that is not
    symmetric, finite and of shape (2, n, n).
    """

    matrix: Float[np.ndarray, "2 n n"] = field(repr=False)
    basis: str

    def __post_init__(self) -> None:
        P = self.matrix
        if P.ndim != 3 or P.shape[0] != 2 or P.shape[1] != P.shape[2]:
            raise ValueError(f"a density matrix of shape {P.shape}: (2, n, n) is expected, alpha and beta")
        if not np.isfinite(P).all() or not np.allclose(P, P.swapaxes(1, 2), rtol=0.0, atol=1e-8):
            raise ValueError("the density matrix is not symmetric, or not finite: symmetrise it, (P + P^T)/2")


@dataclass(frozen=True, eq=False)
class Labels:
    """What is known of one molecule, in atomic units; None for what is not.

    ``energy`` is the total electronic one with the repulsion of the nuclei, ``ionisation`` the vertical
    ionisation energy E(N - 1) - E(N). The dipole moment of an ion is about the origin. Raises ``ValueError``
    for other shapes and for numbers that are not finite.
    """

    energy: float | None = None
    dipole: Float[np.ndarray, " x"] | None = None  # e bohr
    forces: Float[np.ndarray, "a x"] | None = None  # hartree/bohr, -dE/dR
    ionisation: float | None = None
    density: Density | None = None

    def __post_init__(self) -> None:
        shapes = {"energy": (), "ionisation": (), "dipole": (3,), "forces": (None, 3)}
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            found = np.shape(value)
            if len(found) != len(shape) or any(n not in (None, m) for n, m in zip(shape, found, strict=True)):
                expected = str(shape).replace("None", "atoms")
                raise ValueError(f"the label {name} has the shape {found}: {expected} is expected")
            if not np.isfinite(value).all():
                raise ValueError(f"the label {name} is {value}, which is not finite: leave it out")

    @property
    def known(self) -> tuple[str, ...]:
        """The names of what is known."""
        return tuple(f.name for f in fields(self) if getattr(self, f.name) is not None)


@dataclass(frozen=True)
class Reaction:
    """An energy difference: names of molecules, their coefficients, and the reference value in hartree."""

    name: str
    molecules: tuple[str, ...]
    coefficients: tuple[float, ...]
    value: float


@dataclass(frozen=True)
class Reactions:
    """A set of reactions, the molecules that they name, and what else is known of each molecule.

    ``about`` is what the file says of the whole: title, reference level, citation. Raises ``ValueError`` for
    labels of a molecule that is not there, or of another size than the molecule.
    """

    name: str
    molecules: dict[str, Molecule] = field(repr=False)
    reactions: tuple[Reaction, ...] = field(repr=False)
    labels: dict[str, Labels] = field(default_factory=dict, repr=False)
    about: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name, labels in self.labels.items():
            if name not in self.molecules:
                raise ValueError(f"labels of an unknown molecule {name!r}{nearest(name, self.molecules)}")
            n, F = len(self.molecules[name].symbols), labels.forces
            if F is not None and len(F) != n:
                raise ValueError(f"molecule {name!r} has {n} atoms and forces on {len(F)}")

    def only(self, reactions: Sequence[Reaction]) -> Reactions:
        """Some of the reactions, with the molecules that they need and the labels of those."""
        named = {name for reaction in reactions for name in reaction.molecules}
        kept = {name: molecule for name, molecule in self.molecules.items() if name in named}
        labels = {name: known for name, known in self.labels.items() if name in named}
        return replace(self, molecules=kept, reactions=tuple(reactions), labels=labels)

    def matching(self, only: Sequence[str] = ("*",), leave_out: Sequence[str] = ()) -> Reactions:
        """The reactions whose names match a pattern of ``only``, as file names do, and none of ``leave_out``.

        Raises ``ValueError`` for a pattern that no name matches.
        """
        names = [reaction.name for reaction in self.reactions]
        for pattern in (*only, *leave_out):
            if not fnmatch.filter(names, pattern):
                raise ValueError(f"no reaction of {self.name} is called {pattern!r}{nearest(pattern, names)}")
        kept = {name for pattern in only for name in fnmatch.filter(names, pattern)}
        kept -= {name for pattern in leave_out for name in fnmatch.filter(names, pattern)}
        return self.only([reaction for reaction in self.reactions if reaction.name in kept])


def joined(parts: Sequence[Reactions]) -> Reactions:
    """Several sets as one; raises ``ValueError`` where a name stands for different molecules."""
    if len(parts) == 1:
        return parts[0]
    molecules: dict[str, Molecule] = {}
    for part in parts:
        for name, molecule in part.molecules.items():
            held = molecules.setdefault(name, molecule)
            alike = (held.symbols, held.charge, held.spin) == (
                molecule.symbols,
                molecule.charge,
                molecule.spin,
            )
            if not (alike and np.allclose(held.coords, molecule.coords, rtol=0.0, atol=1e-3)):
                raise ValueError(
                    f"{name!r} stands for different molecules, in {part.name} and before: rename it"
                )
    return Reactions(
        name=" + ".join(part.name for part in parts),
        molecules=molecules,
        reactions=tuple(reaction for part in parts for reaction in part.reactions),
        labels={name: labels for part in parts for name, labels in part.labels.items()},
    )
