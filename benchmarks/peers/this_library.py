"""Energy, forces and one training step of this library, measured as its peers are.

    python benchmarks/peers/this_library.py examples/water.xyz --task step

The step is dE/dtheta of PBE with three trainable constants; ``--task density`` is the gradient of a loss on
the density, the squared distance of the dipole moment from (1, 1, 1), which needs the response. Forces are
those of a field converged to 1e-6; the grid moves with the atoms. The compilation cache is on: run twice,
the first run fills it.
"""

from __future__ import annotations

import argparse
from typing import Any

import harness


def prepare(arguments: argparse.Namespace) -> harness.Peer:
    import jax

    import dqc
    import dqc.cache
    from dqc.integrals import libcint  # noqa: F401
    from dqc.molecule import Molecule

    dqc.cache.enable()
    build, forces = dqc.build, dqc.forces
    xc = dqc.functional("pbe", trainable=("kappa", "mu", "beta"))
    program = jax.jit(program_of(arguments.task))
    symbols, places = harness.read_xyz(arguments.molecule)
    molecule = Molecule(tuple(symbols), places)

    def compute() -> tuple[float, float | list | None]:
        system = build(molecule, harness.BASIS, xc)
        if arguments.task == "forces":
            solution = program(xc, system)
            return float(solution.energy), (-forces(system, xc, solution)).tolist()
        energy, gradient = jax.block_until_ready(program(xc, system))
        return float(energy), None if gradient is None else [float(x) for x in jax.tree.leaves(gradient)]

    settings = {
        "density fitting": harness.AUXILIARY,
        "grid": "level 3",
        "differentiation": "implicit",
    }
    return harness.Peer(compute, settings, ("jax", "jaxlib", "pyscf", "numpy"))


def program_of(task: str) -> Any:
    """The function of the functional and the system that is compiled."""
    import jax
    import jax.numpy as jnp

    from dqc.properties.dipole import dipole
    from dqc.scf import scf

    def energy(xc: Any, system: Any) -> Any:
        return scf(system, xc).energy

    def loss(xc: Any, system: Any) -> tuple[Any, Any]:
        solution = scf(system, xc)
        return jnp.sum((dipole(system, solution) - 1.0) ** 2), solution.energy

    def density(xc: Any, system: Any) -> tuple[Any, Any]:
        (_, energy), gradient = jax.value_and_grad(loss, has_aux=True)(xc, system)
        return energy, gradient

    return {
        "energy": lambda xc, system: (energy(xc, system), None),
        "step": jax.value_and_grad(energy),
        "density": density,
        "forces": lambda xc, system: scf(system, xc, tolerance=1e-6),
    }[task]


if __name__ == "__main__":
    harness.main("dqc", prepare, __doc__, (*harness.TASKS, "density"))
