"""Constants against SciPy's CODATA table and the elements against ASE's."""

from __future__ import annotations

import pytest
import scipy.constants as codata

from dqc import constants

VALUES = {
    "BOHR_IN_ANGSTROM": codata.value("Bohr radius") * 1e10,
    "HARTREE_IN_EV": codata.value("Hartree energy in eV"),
    "HARTREE_IN_INVERSE_CM": codata.value("hartree-inverse meter relationship") / 100,
    "HARTREE_IN_KCAL_PER_MOL": codata.value("Hartree energy") * codata.N_A / codata.calorie / 1000,
    "HARTREE_IN_KJ_PER_MOL": codata.value("Hartree energy") * codata.N_A / 1000,
    "DIPOLE_IN_DEBYE": codata.value("atomic unit of electric dipole mom.") * codata.c * 1e21,
    "DALTON_IN_ELECTRON_MASSES": 1 / codata.value("electron mass in u"),
    "SPEED_OF_LIGHT": codata.value("inverse fine-structure constant"),
    "INTENSITY_IN_KM_PER_MOL": codata.N_A
    * codata.e**2
    / (12 * codata.epsilon_0 * codata.c**2 * codata.m_e)
    / 1000,
}


@pytest.mark.parametrize("name", VALUES)
def test_value(name: str) -> None:
    # 1e-9 admits the tables of 2018 and 2022 alike, and catches any mistyped digit before the tenth.
    assert getattr(constants, name) == pytest.approx(VALUES[name], rel=1e-9)


def test_pyscf_uses_an_older_bohr_radius() -> None:
    bohr = pytest.importorskip("pyscf.lib").param.BOHR
    assert abs(bohr / constants.BOHR_IN_ANGSTROM - 1) < 1e-9


def test_elements() -> None:
    data = pytest.importorskip("ase.data")
    assert list(constants.SYMBOLS) == data.chemical_symbols[1:119]
    assert constants.NUMBERS["H"] == 1
    assert constants.NUMBERS["Og"] == 118
    for symbol, number in constants.NUMBERS.items():
        assert constants.MASSES[symbol] == pytest.approx(data.atomic_masses_iupac2016[number], abs=1e-9)
