"""An ASE calculator, so that ASE's optimisers, dynamics and path searches run on dqc's forces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from inspect import signature
from typing import Any

import numpy as np

from dqc.batch import Shape, common_shape, pad, shape_of
from dqc.constants import BOHR_IN_ANGSTROM, HARTREE_IN_EV
from dqc.guess import starting_density
from dqc.molecule import Molecule
from dqc.names import nearest
from dqc.properties.dipole import dipole
from dqc.properties.forces import forces
from dqc.scf import scf
from dqc.solution import Solution
from dqc.system import System, build
from dqc.xc.files import functional
from dqc.xc.functional import Functional

try:
    from ase import Atoms
    from ase.calculators import calculator as base
except ModuleNotFoundError as error:
    if (error.name or "").split(".")[0] != "ase":
        raise
    raise ModuleNotFoundError(
        "This needs ASE, the Atomic Simulation Environment, which is not installed: "
        "pip install dqc-jax[ase] (in a clone of dqc, pip install -e .[ase])."
    ) from error

ROOM = 1.04  # of the grid's shape over the first geometry's, so that the next ones fit into its programs

_BUILD = frozenset(signature(build).parameters) - {"molecule", "basis", "xc"}
_SCF = frozenset(signature(scf).parameters) - {"system", "xc", "adjoint", "response"}


class Calculator(base.Calculator):
    """Kohn-Sham energies (eV), forces (eV/angstrom) and dipole moments (e angstrom) of ASE's molecules.

    ``xc`` is a name or a :class:`dqc.Functional`. Where ``charge`` and ``spin`` (2S) are None, those of the
    atoms hold, as in :meth:`dqc.Molecule.from_ase`. ``options`` are those of :func:`dqc.build` and
    :func:`dqc.scf`; the tolerance is 1e-6 if none is given. Under smearing ``free_energy`` is what the
    forces are the derivative of, and ``energy`` its extrapolation to zero temperature, E - T S / 2.

    The system is built anew at every geometry, the field starts from the last density matrix, and
    geometries share their compiled programs. Raises ``ValueError`` for unknown options, ASE's ``SCFError``
    where the field does not converge.
    """

    implemented_properties = ["energy", "free_energy", "forces", "dipole"]  # noqa: RUF012  (as ASE has it)
    discard_results_on_any_change = True

    def __init__(
        self,
        xc: str | Functional = "pbe",
        basis: str = "def2-svp",
        charge: int | None = None,
        spin: int | None = None,
        atoms: Any = None,
        **options: Any,
    ) -> None:
        """Check the options; ``atoms`` are to get this calculator at once."""
        self._forget()
        super().__init__(atoms=atoms, xc=xc, basis=basis, charge=charge, spin=spin, **options)

    def set(self, **options: Any) -> dict[str, Any]:
        """Change options; the last density matrix is forgotten with the results."""
        known = _BUILD | _SCF | {"xc", "basis", "charge", "spin"}
        for name in options.keys() - known:
            raise ValueError(f"{name!r} is no option of build or scf{nearest(name, known)}.")
        self._forget()
        changed: dict[str, Any] = super().set(**options)
        return changed

    def _forget(self) -> None:
        self._molecule: Molecule | None = None
        self._system: System | None = None
        self._solution: Solution | None = None

    def check_state(self, atoms: Any, tol: float = 1e-15) -> list[str]:
        """What has changed since the last calculation; ASE itself does not look at ``info``."""
        changes: list[str] = super().check_state(atoms, tol)
        last = {} if self.atoms is None else self.atoms.info
        if self.atoms is not None and any(atoms.info.get(k) != last.get(k) for k in ("charge", "spin")):
            changes.append("initial_charges")
        return changes

    def calculate(
        self,
        atoms: Any = None,
        properties: Sequence[str] = ("energy",),
        system_changes: Sequence[str] = tuple(base.all_changes),
    ) -> None:
        """Fill ``results``; the forces only where ``properties`` names them."""
        super().calculate(atoms, properties, system_changes)
        xc = self.parameters["xc"]
        xc = functional(xc) if isinstance(xc, str) else xc
        if system_changes or self._solution is None:
            self._solve(xc)
        system, solution = self._system, self._solution
        assert system is not None
        assert solution is not None
        free = float(solution.energy)
        self.results["free_energy"] = free * HARTREE_IN_EV
        self.results["energy"] = (free - 0.5 * float(solution.energies.smearing)) * HARTREE_IN_EV
        self.results["dipole"] = np.asarray(dipole(system, solution)) * BOHR_IN_ANGSTROM
        if "forces" in properties:
            F = np.asarray(forces(system, xc, solution))
            self.results["forces"] = F * (HARTREE_IN_EV / BOHR_IN_ANGSTROM)

    def _solve(self, xc: Functional) -> None:
        given = self.parameters
        molecule = Molecule.from_ase(self.atoms, given["charge"], given["spin"])
        if not _alike(molecule, self._molecule):
            self._forget()
        options = {name: given[name] for name in _BUILD & given.keys()}
        system = _roomy(build(molecule, given["basis"], xc, **options), self._system)
        options = {"tolerance": 1e-6} | {name: given[name] for name in _SCF & given.keys()}
        start = options.get("guess", "sap")
        if self._solution is not None:
            options |= {"guess": self._solution.density_matrix, "moments": None}
        elif isinstance(start, str) and options.get("moments") is None:
            options["guess"] = starting_density(system, start)  # by the program that restarts use
        solution = scf(system, xc, **options)
        if not solution.converged:
            self._forget()
            raise base.SCFError(solution.message)
        self._molecule, self._system, self._solution = molecule, system, solution


def to_ase(molecule: Molecule) -> Atoms:
    """The molecule as ``ase.Atoms``, its charge and spin in ``info``."""
    info = {"charge": molecule.charge, "spin": molecule.spin}
    return Atoms(molecule.symbols, molecule.coords * BOHR_IN_ANGSTROM, info=info)


def _alike(molecule: Molecule, last: Molecule | None) -> bool:
    return last is not None and (molecule.symbols, molecule.charge, molecule.spin) == (
        last.symbols,
        last.charge,
        last.spin,
    )


def _roomy(system: System, last: System | None) -> System:
    """The system padded to the last one's shape, or beyond where it is larger: grids vary a little."""
    if system.grid is None:
        return system
    if last is not None:
        return pad(system, common_shape([system, last]))
    shells = tuple(len(s.atom) for s in system.basis)
    shape: Shape = shape_of(system)
    grids = {
        name: tuple(
            (
                math.ceil(ROOM * chunks) + 1,
                tuple(min(math.ceil(ROOM * h), most) for h, most in zip(reach, shells, strict=False)),
            )
            for chunks, reach in getattr(shape, name)
        )
        for name in ("grid", "coarse")
    }
    return pad(system, shape._replace(**grids))  # type: ignore[arg-type]
