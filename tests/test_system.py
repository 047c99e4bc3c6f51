"""``build``: what it refuses, what it leaves out, and what it takes from PySCF."""

import jax
import numpy as np
import pytest
from pyscf import gto

import dqc
import dqc.system
from dqc.basis import auxiliary_mole, pyscf_mole, shells_of
from dqc.system import check_needs

WATER = dqc.Molecule.from_string("O 0 0 0.1173; H 0 0.7572 -0.4692; H 0 -0.7572 -0.4692")
IODIDE = dqc.Molecule.from_string("H 0 0 0; I 0 0 1.609")


@pytest.fixture(scope="module")
def lda():
    return dqc.build(WATER, "sto-3g", dqc.functional("lda,vwn"), grid=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"basis": "def2-svq"}, "Unknown basis 'def2-svq' .*def2-svp"),
        ({"basis": {"O": "sto-3g"}}, "no entry for H"),
        ({"basis": {"O": "sto-3g", "H": "no-such-basis"}}, "Unknown basis 'no-such-basis'"),
        ({"grid": 10}, "grid=10 is not one of 0, 1"),
        ({"two_electron": "fitted"}, "two_electron='fitted' is not one of 'df', 'exact'"),
        ({"ao": "kept"}, "ao='kept' is not one of"),
        ({"integrals": "jax"}, "integrals='jax' is not one of 'libcint'"),
    ],
)
def test_bad_input_is_one_sentence(options, sentence, unchecked_types):
    with pytest.raises(ValueError, match=sentence) as caught:
        dqc.build(WATER, **({"basis": "sto-3g"} | options))
    assert "\n" not in str(caught.value)


def test_basis_without_the_element():
    uranium = dqc.Molecule.from_string("U 0 0 0", charge=6)
    with pytest.raises(ValueError, match="'def2-svp' does not contain U"):
        dqc.build(uranium, "def2-svp")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"two_electron": "exact"}, 'two_electron="df"'),
        ({"two_electron": "df"}, "a smaller basis"),
    ],
)
def test_more_memory_than_the_machine_has(options, remedy, monkeypatch):
    monkeypatch.setattr(dqc.system, "memory_bytes", lambda: 1000)
    with pytest.raises(ValueError, match=f"this machine has 0.0 GiB; use {remedy}"):
        dqc.build(WATER, "sto-3g", grid=0, **options)


def test_stored_values_that_do_not_fit(lda, monkeypatch):
    room = dqc.system.ao_bytes(lda) - 1
    monkeypatch.setattr(dqc.system, "memory_bytes", lambda: room)
    with pytest.raises(ValueError, match=r"AO values on the grid.*recomputed"):
        dqc.build(WATER, "sto-3g", dqc.functional("lda,vwn"), grid=0, ao="stored")
    automatic = dqc.build(WATER, "sto-3g", dqc.functional("lda,vwn"), grid=0, ao="auto")
    assert all(block.ao is None for block in automatic.grid.blocks)


def test_only_what_the_functional_needs(lda):
    assert {block.ao.shape[1] for block in lda.grid.blocks} == {1}
    assert len(lda.repulsion) == 1
    hartree_fock = dqc.build(WATER, "sto-3g", dqc.functional("hf"))
    assert hartree_fock.grid is None
    assert hartree_fock.coarse is None
    separated = dqc.build(WATER, "sto-3g", dqc.functional("camb3lyp"), grid=0)
    assert [float(r.omega) for r in separated.repulsion] == [0.0, 0.33]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("pbe", "AO gradients"), ("camb3lyp", "AO gradients"), ("lc-wpbe", "AO gradients")],
)
def test_a_system_that_lacks_something_is_refused(lda, name, sentence):
    with pytest.raises(ValueError, match=f"{sentence}.*build the system with xc="):
        check_needs(lda, dqc.functional(name))


def test_a_system_without_grid_or_long_range_is_refused():
    hartree_fock = dqc.build(WATER, "sto-3g", dqc.functional("hf"))
    with pytest.raises(ValueError, match="no grid"):
        dqc.scf(hartree_fock, dqc.functional("pbe"))
    semilocal = dqc.build(WATER, "sto-3g", dqc.functional("pbe"), grid=0)
    with pytest.raises(ValueError, match="range-separated"):
        dqc.scf(semilocal, dqc.functional("lc-wpbe"))
    other_range = dqc.build(WATER, "sto-3g", dqc.functional("camb3lyp"), grid=0)
    with pytest.raises(ValueError, match="range-separated"):
        dqc.scf(other_range, dqc.functional("lc-wpbe"))


def test_arrays_only(lda):
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(lda))
    assert all(leaf.dtype in (np.float64, np.int32) for leaf in jax.tree.leaves(lda))


def test_core_potentials_come_with_the_basis():
    assert float(dqc.build(IODIDE, "def2-svp", dqc.functional("hf")).charges[1]) == 25.0
    mole = pyscf_mole(IODIDE, "def2-svp", ecp=None)
    assert not mole.has_ecp()


def test_shells_are_those_of_pyscf():
    mole = pyscf_mole(WATER, {"O": "def2-tzvp", "H": "cc-pvdz"})
    shells = shells_of(mole)
    counted = sum((2 * l + 1) * len(group.atom) for l, group in enumerate(shells))
    assert counted == mole.nao == gto.M(
        atom=[("O", (0, 0, 0)), ("H", (0, 0, 2)), ("H", (0, 2, 0))], basis={"O": "def2-tzvp", "H": "cc-pvdz"}
    ).nao  # fmt: skip
    first = np.sort(np.concatenate([np.asarray(group.ao) for group in shells]))
    assert len(set(first)) == len(first)
    assert first[0] == 0


def test_the_fitting_set_follows_the_functional():
    mole = pyscf_mole(WATER, "def2-svp")
    coulomb, exchange = (auxiliary_mole(mole, "def2-svp", None, exact).nao for exact in (False, True))
    assert coulomb < exchange
    named = auxiliary_mole(mole, "def2-svp", "def2-svp-jkfit", False)
    assert named.nao == exchange
