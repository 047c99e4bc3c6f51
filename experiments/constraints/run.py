"""One-electron and fractional errors of functionals, by dqc and by PySCF. See README.md."""

from __future__ import annotations

import argparse
import json
from functools import lru_cache
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from pyscf import dft, gto, scf

import dqc
import dqc.cache

BASIS, GRID = "aug-cc-pvqz", 4
FUNCTIONALS = ("lda,vwn", "pbe", "tpss", "r2scan", "pbe0")
DISTANCES = (2.0, 4.0, 10.0)  # of H2+, bohr
NONE, ONE, HALF = (np.array([[up], [down]]) for up, down in ((0.0, 0.0), (1.0, 0.0), (0.5, 0.5)))


def hydrogens(distance: float | None) -> dqc.Molecule:
    """H, or H2+."""
    if distance is None:
        return dqc.Molecule(["H"], np.zeros((1, 3)), spin=1)
    return dqc.Molecule(["H", "H"], [[0, 0, 0], [0, 0, distance]], charge=1, spin=1)


def ours(name: str) -> dict[str, float]:
    """Errors in hartree; nan where a field has not converged."""
    xc, hf = dqc.functional(name), dqc.functional("hf")
    atom = dqc.build(hydrogens(None), BASIS, xc, grid=GRID, two_electron="exact")
    exact = dqc.losses.hydrogenic(1.0, "1s")
    none, one, half = (jnp.asarray(f) for f in (NONE, ONE, HALF))
    charge = dqc.losses.fractional_charge(atom, xc, none, one, (0.5,))
    spin = dqc.losses.fractional_spin(atom, xc, one, half, -0.5)
    rows = {
        "H, exact density: E_xc + E_H": dqc.losses.self_interaction(xc, exact),
        "the same, half an electron of each spin": dqc.losses.self_interaction(xc, exact, zeta=0.0),
        "H with 1/2 electron: E - E(1)/2": jnp.where(charge.converged, charge.error, jnp.nan)[0],
        "H, half an electron of each spin: E + 1/2": jnp.where(spin.converged, spin.error, jnp.nan)[0],
    }
    for R in DISTANCES:
        ion = dqc.build(hydrogens(R), BASIS, xc, grid=GRID, two_electron="exact")
        sol, bare = dqc.scf(ion, xc, one), dqc.scf(ion, hf, one)
        rows[f"H2+ at {R:g} bohr: E - E(HF)"] = jnp.where(sol.converged, sol.energy - bare.energy, jnp.nan)
    return {key: float(value) for key, value in rows.items()}


def energy(mole: gto.Mole, name: str, occupations: np.ndarray) -> float:
    """PySCF's energy with these occupations of the lowest orbitals, nan where it has not converged."""
    mf = scf.UHF(mole) if name == "hf" else dft.UKS(mole, xc=name)
    if name != "hf":
        mf.grids.level = GRID

    def occupied(mo_energy, mo_coeff=None):
        f = np.zeros_like(np.asarray(mo_energy))
        for spin in (0, 1):
            lowest = np.argsort(mo_energy[spin])[: occupations.shape[1]]
            f[spin, lowest] = occupations[spin]
        return f

    mf.get_occ = occupied
    mf.conv_tol, mf.max_cycle, mf.chkfile = 1e-11, 200, None
    found = mf.kernel(dm0=mf.get_init_guess(key="1e"))
    return found if mf.converged else float("nan")


def cation(R: float) -> gto.Mole:
    return gto.M(atom=f"H 0 0 0; H 0 0 {R}", unit="bohr", basis=BASIS, charge=1, spin=1, verbose=0)


@lru_cache
def hartree_fock(R: float) -> float:
    return energy(cation(R), "hf", ONE)


def theirs(name: str) -> dict[str, float]:
    """The same by PySCF; the exact density in a nearly complete basis of even-tempered s functions."""
    mole = gto.M(atom="H", basis=BASIS, spin=1, verbose=0)
    complete = gto.M(atom="H", basis={"H": gto.etbs([(0, 26, 0.008, 2.2)])}, spin=1, verbose=0)
    bare = scf.UHF(complete).run(conv_tol=1e-12)
    functional = dft.UKS(complete, xc=name)
    functional.grids.level = 9
    P = bare.make_rdm1()
    halves = np.stack([P[0] / 2, P[0] / 2])
    energies = {str(f.tolist()): energy(mole, name, f) for f in (ONE, HALF, ONE / 2)}
    one, half, part = energies.values()
    rows = {}
    for key, dm in (("H, exact density: E_xc + E_H", P), ("the same, half an electron of each spin", halves)):
        v = functional.get_veff(complete, dm)
        rows[key] = v.ecoul + v.exc
    rows["H with 1/2 electron: E - E(1)/2"] = part - one / 2
    rows["H, half an electron of each spin: E + 1/2"] = half + 0.5
    for R in DISTANCES:
        ion = cation(R)
        rows[f"H2+ at {R:g} bohr: E - E(HF)"] = energy(ion, name, ONE) - hartree_fock(R)
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--functionals", nargs="+", default=FUNCTIONALS, metavar="XC")
    arguments.add_argument("--json", type=Path, help="also write the errors (hartree) to this file")
    options = arguments.parse_args()
    dqc.cache.enable()
    record = {}
    print(f"errors in mHa, {BASIS}, grid {GRID}\n\n{'':<14}{'':<44}{'dqc':>10}{'PySCF':>10}")
    for name in options.functionals:
        record[name] = {"dqc": ours(name), "pyscf": theirs(name)}
        for key, value in record[name]["dqc"].items():
            print(
                f"{name:<14}{key:<44}{1e3 * value:>10.2f}{1e3 * record[name]['pyscf'][key]:>10.2f}",
                flush=True,
            )
    if options.json:
        options.json.write_text(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
