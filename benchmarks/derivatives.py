"""The measurements that ``gradient.py`` puts into tables, each a process of its own that prints JSON.

python benchmarks/derivatives.py cost water
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from energy import EXAMPLES
from peers import harness

ITERATIONS = 5, 10, 20, 40
LOSSES = "energy", "dipole", "density"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("measurement", choices=MEASUREMENTS)
    parser.add_argument("molecule")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    harness.hold_to_cores(arguments.threads)
    print(json.dumps(MEASUREMENTS[arguments.measurement](arguments.molecule, arguments)))


def cost(molecule: str, arguments: argparse.Namespace) -> dict:
    import jax

    import dqc

    xc, system = case(molecule)
    programs, rows = {}, {}
    given = xc, dqc.no_response(), system
    functions: dict[str, Callable] = {"scf": solved}
    functions |= {k: jax.value_and_grad(partial(loss, k), (0, 1)) for k in LOSSES}
    for name, function in functions.items():
        start = time.perf_counter()
        programs[name] = jax.jit(function).lower(*given).compile()
        rows[name] = {"compiling": time.perf_counter() - start}
    times: dict[str, list[float]] = {name: [] for name in programs}
    for warm in range(arguments.repeats + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            result = jax.block_until_ready(program(*given))
            if warm:
                times[name].append(time.perf_counter() - start)
            elif name == "scf":
                assert bool(result[1])
                rows[name]["iterations"] = int(result[2])
            else:
                report = result[1][1]
                assert name == "energy" or bool(report.converged)
                rows[name]["iterations"] = int(report.iterations)
    alone = statistics.median(times["scf"])
    for name, row in rows.items():
        row["time"] = statistics.median(times[name])
        row["extra"] = statistics.median(np.subtract(times[name], times["scf"])) / alone
    return rows


def solved(xc: Any, response: Any, system: Any) -> tuple:
    import dqc

    sol = dqc.scf(system, xc)
    return sol.energy, sol.converged, sol.iterations


def loss(name: str, xc: Any, response: Any, system: Any, **options: Any) -> Any:
    import jax.numpy as jnp

    import dqc

    sol = dqc.scf(system, xc, response=response, **options)
    if name == "energy":
        return sol.energy
    if name == "dipole":
        return jnp.sum((dqc.dipole(system, sol) - 1.0) ** 2)
    change = sol.density_matrix.sum(0) - system.atomic_density
    return 0.5 * jnp.vdot(system.repulsion[0].coulomb(change), change)


def case(molecule: str) -> tuple:
    """The functional and the system."""
    import dqc

    xc = dqc.functional("pbe", trainable=("kappa", "mu", "beta"))
    return xc, dqc.build(dqc.Molecule.from_xyz(EXAMPLES / f"{molecule}.xyz"), harness.BASIS, xc)


def forces(molecule: str, arguments: argparse.Namespace) -> dict:
    import jax

    import dqc

    xc, system = case(molecule)
    sol = jax.block_until_ready(dqc.scf(system, xc, tolerance=1e-7))
    assert bool(sol.converged)
    result, times = repeated(lambda: jax.block_until_ready(dqc.forces(system, xc, sol)), arguments)
    time = statistics.median(times[1:])
    return {"forces": result.tolist(), "time": time, "compiling": times[0] - time}


def pyscf_forces(molecule: str, arguments: argparse.Namespace) -> dict:
    from pyscf import dft, gto, lib

    lib.num_threads(arguments.threads)
    atoms = list(zip(*harness.read_xyz(EXAMPLES / f"{molecule}.xyz"), strict=True))
    mol = gto.M(atom=atoms, unit="bohr", basis=harness.BASIS, verbose=0)
    mf = dft.RKS(mol, xc="pbe").density_fit()
    mf.conv_tol, mf.conv_tol_grad = 1e-11, 1e-7
    mf.kernel()
    assert mf.converged

    def gradient(moving: bool) -> np.ndarray:
        method = mf.nuc_grad_method()
        method.grid_response = moving
        return method.kernel()

    rows = {}
    for name, moving in (("moving", True), ("fixed", False)):
        result, times = repeated(partial(gradient, moving), arguments)
        rows[name] = {"gradient": result.tolist(), "time": statistics.median(times[1:])}
    return rows


def repeated(task: Callable[[], Any], arguments: argparse.Namespace) -> tuple[Any, list[float]]:
    """The last result, and the times: of the first call, and of as many as asked for."""
    times, result = [], None
    for _ in range(arguments.repeats + 1):
        start = time.perf_counter()
        result = task()
        times.append(time.perf_counter() - start)
    return result, times


def unrolled(molecule: str, arguments: argparse.Namespace) -> dict:
    import jax

    import dqc

    xc, system = case(molecule)

    def megabytes(adjoint: str, iterations: int) -> float:
        measured = partial(loss, "dipole", adjoint=adjoint, max_iterations=iterations)
        program = jax.jit(jax.value_and_grad(measured)).lower(xc, dqc.no_response(), system).compile()
        return program.memory_analysis().temp_size_in_bytes / 1e6

    return {mode: [megabytes(mode, n) for n in ITERATIONS] for mode in ("implicit", "unrolled")}


MEASUREMENTS = {"cost": cost, "forces": forces, "pyscf_forces": pyscf_forces, "unrolled": unrolled}

if __name__ == "__main__":
    main()
