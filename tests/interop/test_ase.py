"""The ASE calculator: units, forces as derivatives, restarts, shared programs, an optimisation."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

import dqc
from dqc.constants import BOHR_IN_ANGSTROM, DIPOLE_IN_DEBYE, HARTREE_IN_EV
from dqc.properties.dipole import dipole
from dqc.types import replace

ase = pytest.importorskip("ase")
from ase import units  # noqa: E402
from ase.calculators.calculator import SCFError  # noqa: E402
from ase.optimize import BFGS  # noqa: E402

from dqc.interop.ase import _alike  # noqa: E402

WATER = [[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.05, -0.76, -0.47]]  # angstrom
METHOD = {"xc": "lda,vwn", "basis": "sto-3g", "grid": 1}


def water(**changes: Any) -> Any:
    atoms = ase.Atoms("OH2", WATER)
    atoms.calc = dqc.interop.ase.Calculator(**(METHOD | changes))
    return atoms


@cache
def optimised() -> tuple[Any, list[float]]:
    """Water at its minimum, and the seconds of compilation that each step took."""
    compiled: list[float] = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, seconds, **_: (
            compiled.append(seconds) if event.endswith("backend_compile_duration") else None
        )
    )
    atoms, seconds = water(), []
    for _ in BFGS(atoms, logfile=None).irun(fmax=0.02, steps=20):
        seconds.append(sum(compiled))
        compiled.clear()
    return atoms, seconds


def test_energy_and_dipole_are_the_librarys() -> None:
    atoms, xc = optimised()[0], dqc.functional("lda,vwn")
    system = dqc.build(dqc.Molecule.from_ase(atoms), "sto-3g", xc, grid=1)
    sol = dqc.scf(system, xc, tolerance=1e-6)
    assert atoms.get_potential_energy() == pytest.approx(float(sol.energy) * HARTREE_IN_EV, abs=1e-7)
    mu = np.asarray(dipole(system, sol)) * DIPOLE_IN_DEBYE
    np.testing.assert_allclose(atoms.get_dipole_moment() / units.Debye, mu, atol=1e-5)
    F = np.asarray(dqc.forces(system, xc, sol)) * HARTREE_IN_EV / BOHR_IN_ANGSTROM
    np.testing.assert_allclose(atoms.get_forces(), F, atol=1e-5)


def test_forces_are_the_slope_of_the_energy() -> None:
    atoms = water()
    F = atoms.get_forces()
    v = np.random.default_rng(2).normal(size=(3, 3))
    h = 0.0005
    energies = []
    for k in (-1, 1):
        atoms.set_positions(np.array(WATER) + k * h * v)
        energies.append(atoms.get_potential_energy())
    assert np.vdot(F, v) == pytest.approx(-(energies[1] - energies[0]) / (2 * h), rel=1e-4)


def test_an_optimisation_ends_at_a_minimum() -> None:
    atoms, _ = optimised()
    assert np.linalg.norm(atoms.get_forces(), axis=1).max() < 0.02
    assert atoms.get_distance(0, 1) == pytest.approx(atoms.get_distance(0, 2), abs=2e-3)
    assert 0.95 < atoms.get_distance(0, 1) < 1.06
    assert 90 < atoms.get_angle(1, 0, 2) < 110
    lowest = atoms.get_potential_energy()
    other = atoms.copy()
    other.calc = atoms.calc
    for index in ((0, 2), (1, 1)):  # along and across the bonds it rises
        for step in (0.03, -0.03):
            other.set_positions(atoms.get_positions())
            other.positions[index] += step
            assert other.get_potential_energy() > lowest
    atoms.get_potential_energy()  # the calculator is left where it was


def test_later_geometries_compile_nothing() -> None:
    seconds = optimised()[1]
    assert len(seconds) > 3
    assert seconds[1:] == [0] * len(seconds[1:])


def test_a_geometry_starts_from_the_last_density() -> None:
    atoms = water()
    atoms.get_potential_energy()
    cold = int(atoms.calc._solution.iterations)
    atoms.positions[1] += 0.002
    atoms.get_potential_energy()
    assert int(atoms.calc._solution.iterations) < cold


def test_nothing_is_solved_twice() -> None:
    atoms = water()
    atoms.get_potential_energy()
    solution = atoms.calc._solution
    atoms.get_forces()
    assert atoms.calc._solution is solution
    atoms.calc.set(tolerance=1e-4)
    assert atoms.calc.results == {}


def test_another_charge_starts_anew() -> None:
    """Although ASE does not look into ``info``."""
    calculator = water().calc
    calculator.get_potential_energy(ase.Atoms("OH2", WATER))
    assert calculator.check_state(ase.Atoms("OH2", WATER)) == []
    assert calculator.check_state(ase.Atoms("OH2", WATER, info={"charge": 1})) == ["initial_charges"]
    same, ion = (dqc.Molecule.from_ase(ase.Atoms("OH2", WATER), charge) for charge in (0, 1))
    assert _alike(same, calculator._molecule)
    assert not _alike(ion, calculator._molecule)


def test_under_smearing_the_energy_is_extrapolated(monkeypatch: pytest.MonkeyPatch) -> None:
    def smeared(*arguments: Any, **options: Any) -> dqc.Solution:
        assert options.pop("smearing") == 0.05
        sol = dqc.scf(*arguments, **options)
        energies = replace(sol.energies, smearing=sol.energy * 0 - 0.1)
        return replace(sol, energy=sol.energy - 0.1, energies=energies)

    monkeypatch.setattr("dqc.interop.ase.scf", smeared)
    atoms = water(smearing=0.05)
    free = atoms.get_potential_energy(force_consistent=True)
    monkeypatch.undo()
    assert free == pytest.approx(water().get_potential_energy() - 0.1 * HARTREE_IN_EV, abs=1e-6)
    assert atoms.get_potential_energy() == pytest.approx(free + 0.05 * HARTREE_IN_EV, abs=1e-9)


def test_a_field_that_does_not_converge_raises() -> None:
    with pytest.raises(SCFError, match="Not converged"):
        water(tolerance=1e-30).get_potential_energy()


def test_bad_input_is_one_sentence() -> None:
    with pytest.raises(ValueError, match=r"'smering' is no option of build or scf.*smearing"):
        water(smering=0.1)
    periodic = water()
    periodic.pbc = True
    with pytest.raises(ValueError, match="periodic"):
        periodic.get_potential_energy()


def test_without_ase_one_sentence_names_the_extra() -> None:
    code = "import sys; sys.modules['ase'] = None\nimport dqc\ndqc.interop.ase"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert "pip install dqc-jax[ase]" in ran.stderr.splitlines()[-1]


def test_the_door_is_light() -> None:
    code = "import sys, dqc.interop; print([name for name in ('ase', 'jax', 'numpy') if name in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.stdout.strip() == "[]"
    with pytest.raises(AttributeError, match="no attribute 'asse'"):
        dqc.interop.asse  # noqa: B018
