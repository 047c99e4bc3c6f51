"""A training step inside the SCF over small molecules of different shapes: time, compilation, memory.

    python benchmarks/training.py                          # against PySCF's plain PBE energies
    python benchmarks/training.py --torch-dqc PYTHON       # and PyTorch DQC's step (benchmarks/peers)
    python benchmarks/training.py --save systems           # write the integrals, here,
    python benchmarks/training.py --load systems           # and run on a machine without PySCF, on a GPU say

A neural functional with PBE as its parent, def2-SVP, density fitting, grid level 3. A step is: a field for
every molecule from its last density, energies with their derivatives by the parameters, Adam. "first fields"
start from superpositions of atomic potentials. The density loss is that of the fields against zero, which
costs what any reference costs. "buckets" are programs shared by molecules up to --growth apart in size;
"alone" is a program for each shape. Times are medians of several steps.

The floor of a step on the grid is counted: two matrix products a chunk for the orbitals and the Fock matrix
in every pass, each number of the AO values read twice, over what this machine does in a large matrix product
and in a copy. Passes over the grid are two for a field and two for the derivative, at least; the other
iterations pass over the coarse one.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import dqc
from dqc.batch import shape_of
from dqc.training.log import Log, Position
from dqc.training.molecules import Molecules
from dqc.training.objective import Loss, Table
from dqc.training.result import stacked
from dqc.training.run import Training
from dqc.training.stages import Stage
from dqc.training.systems import Chunk, Prepared, arranged, prepare

EXAMPLES = Path(__file__).parent.parent / "examples"
MOLECULES = (
    "water formaldehyde acetylene nitrogen lithium_fluoride ozone hydrogen_chloride phosphine hydroxyl "
    "methyl methylene nitric_oxide cyano oxygen ethanol small_molecules/ammonia small_molecules/methane "
    "small_molecules/hydrogen_cyanide small_molecules/fluorine small_molecules/hydrogen_peroxide"
).split()
PARTS = "buckets alone density pyscf".split()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--molecules", nargs="+", default=MOLECULES, metavar="NAME")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--grid", type=int, default=3)
    parser.add_argument("--growth", type=float, default=1.25)
    parser.add_argument("--lanes", type=int, help="molecules solved together (default: 1 on a CPU, else 16)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS, metavar="PART", help=str(PARTS))
    parser.add_argument("--torch-dqc", metavar="PYTHON", help="see benchmarks/peers/torch_dqc.py")
    parser.add_argument("--save", metavar="DIR", help="write the systems there and stop")
    parser.add_argument("--load", metavar="DIR", help="read the systems from there")
    parser.add_argument("--json", metavar="FILE", help="all numbers")
    arguments = parser.parse_args()
    if arguments.repeats < 3:
        parser.error("--repeats must be at least 3: medians are reported")
    xc = dqc.neural("pbe")
    if arguments.save:
        return save(xc, arguments)
    count = len(arguments.molecules)
    print(f"{count} molecules, neural PBE/{arguments.basis}, grid {arguments.grid}, {jax.default_backend()}")
    numbers: dict[str, Any] = {}
    for part in arguments.parts:
        if part in ("buckets", "alone", "density"):
            numbers[part] = row = ours(part, xc, arguments)
            print(describe(part, row), flush=True)
        elif part == "pyscf" and not arguments.load:
            numbers[part] = row = pyscf_energies(arguments)
            ratio = numbers["buckets"]["step"] / row["time"]
            print(f"PySCF    PBE energies {row['time']:.4f} s a molecule; a step over that {ratio:.3f}")
    if arguments.torch_dqc:
        numbers["torch_dqc"] = torch_dqc(arguments, numbers["buckets"])
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(numbers, indent=1))
    return None


def molecules_of(arguments: argparse.Namespace) -> dict[str, dqc.Molecule]:
    return {name: dqc.Molecule.from_xyz(EXAMPLES / f"{name}.xyz") for name in arguments.molecules}


def save(xc: Any, arguments: argparse.Namespace) -> None:
    folder = Path(arguments.save)
    folder.mkdir(parents=True, exist_ok=True)
    for name, molecule in molecules_of(arguments).items():
        system = dqc.build(molecule, arguments.basis, xc, grid=arguments.grid, ao="recomputed")
        dqc.save(system, folder / f"{name.replace('/', '_')}.safetensors")


def prepared(part: str, xc: Any, arguments: argparse.Namespace) -> Prepared:
    growth = 1.0 if part == "alone" else arguments.growth
    options = {"growth": growth, "lanes": arguments.lanes}
    if arguments.load:
        paths = sorted(Path(arguments.load).glob("*.safetensors"))
        systems = {path.stem: dqc.load(path, ao="recomputed") for path in paths}
        return arranged(systems, xc, **options)
    return prepare(molecules_of(arguments), xc, basis=arguments.basis, grid=arguments.grid, **options)


def ours(part: str, xc: Any, arguments: argparse.Namespace) -> dict[str, Any]:
    """First fields, then steps of training on total energies, a little below those of the parent."""
    start = time.perf_counter()
    ready = prepared(part, xc, arguments)
    setting_up = time.perf_counter() - start
    if part == "density":
        ready = Prepared(
            tuple(map(with_density, ready.chunks)), ready.mesh, ready.padding_waste, ready.programs
        )
    molecules = Molecules(ready, 1, ())
    loss = Loss(density=1.0) if part == "density" else Loss()
    stage = Stage(epochs=arguments.repeats + 1, optimizer="adam")
    members, everything = stacked([xc]), np.arange(len(ready.names))
    first, fields = timed(lambda: solved(molecules, members))
    seen = molecules.seen(members, fields, everything, Loss(), False)
    assert seen.usable.all(), f"not converged: {seen.failed}"
    count = len(ready.names)
    table = Table(ready.names, np.eye(count), seen.energies[0] - 0.01)
    log, chunks = Log(None, {}, False), range(len(ready.chunks))
    training = Training(members, molecules, {"train": table}, [stage], [loss], log, 0)
    state = training.entered(0, members, fields)
    times: dict[str, list[float]] = {"step": [], "fields": []}
    iterations: list[int] = []
    for repeat in range(arguments.repeats + 1):
        took, _ = timed(lambda: training.solved(state.xcs, state.fields, chunks))  # noqa: B023
        step, (state, record) = timed(lambda: training.step(state, Position(), everything))  # noqa: B023
        assert not record["failed"], f"not converged: {record['failed']}"
        if repeat:  # the first one compiles
            times["step"].append(step / count)
            times["fields"].append(took / count)
            iterations += [int(n) for f in state.fields for n in np.asarray(f.iterations).ravel()]
    fields = state.fields
    row = {name: statistics.median(values) for name, values in times.items()}
    again, _ = timed(lambda: solved(molecules, members))
    on_grid, on_coarse = (sum(floor(c, name) for c in ready.chunks) / count for name in ("grid", "coarse"))
    least = 4.0 * on_grid + (statistics.mean(iterations) - 2.0) * on_coarse
    return row | {
        "set-up": setting_up / count,
        "compiling": (first - again) / ready.programs,
        "first fields": again / count,
        "programs": ready.programs,
        "waste": ready.padding_waste,
        "iterations": statistics.mean(iterations),
        "eigh": sum(diagonalising(f) for f in fields) / count * statistics.mean(iterations) / row["step"],
        "floor": row["step"] / least,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def solved(molecules: Molecules, members: Any) -> tuple[dqc.Solution, ...]:
    """First fields of all molecules."""
    return tuple(molecules.solved(members, k, None) for k in range(len(molecules.places)))


def describe(part: str, row: dict[str, Any]) -> str:
    lines = (
        f"step {row['step']:.4f} s a molecule ({1 / row['step']:.1f}/s), of that fields {row['fields']:.4f}; "
        f"first fields {row['first fields']:.3f}; {row['iterations']:.1f} iterations",
        f"{row['programs']} programs, {row['compiling']:.1f} s each to compile the SCF; padding waste "
        f"{row['waste']:.2f}; peak memory {row['memory']:.0f} MB",
        f"eigendecompositions {100 * row['eigh']:.0f} % of a step; {row['floor']:.1f} x the grid's floor",
    )
    return "\n".join(f"{name:8s} {line}" for name, line in zip((part, "", ""), lines, strict=True))


def with_density(chunk: Chunk) -> Chunk:
    """The chunk with a label for the density: none at all, which costs the same."""
    zero = tuple(jnp.zeros((*b.weights.shape[:2], 2, b.weights.shape[2])) for b in chunk.system.grid.blocks)
    return Chunk(chunk.names, chunk.system, {"density": zero}, {"density": np.ones(chunk.lanes)})


def diagonalising(field: dqc.Solution) -> float:
    """Seconds for one eigendecomposition of every Fock matrix of a chunk."""
    F = field.fock
    solve = jax.jit(jnp.linalg.eigh)
    jax.block_until_ready(solve(F))
    return timed(lambda: solve(F))[0]


def floor(chunk: Chunk, name: str) -> float:
    """Seconds that one pass over the grids or coarse grids of a chunk takes at least, on this machine."""
    system = jax.tree.map(lambda x: x[0], chunk.system)
    spins, slots = system.occupations.shape
    flops = numbers = 0.0
    for block, (chunks, shells) in zip(
        getattr(system, name).blocks, getattr(shape_of(system), name), strict=True
    ):
        m = sum((2 * l + 1) * h for l, h in enumerate(shells))
        points = chunks * block.weights.shape[1]
        flops += points * spins * (4 * 2 * m * slots + 2 * m * m)
        numbers += points * 4 * m * 2
    rates = machine()
    return chunk.lanes * max(flops / rates["flops"], 8 * numbers / rates["bytes"])


def machine(held: dict[str, float] = {}) -> dict[str, float]:  # noqa: B006 (measured once)
    if not held:
        a = jnp.ones((2048, 2048))
        b = jnp.ones(2**26)
        product, copy = jax.jit(jnp.dot), jax.jit(lambda b: b + 1.0)
        jax.block_until_ready((product(a, a), copy(b)))
        held["flops"] = 2 * 2048**3 / min(timed(lambda: product(a, a))[0] for _ in range(3))
        held["bytes"] = 2 * b.nbytes / min(timed(lambda: copy(b))[0] for _ in range(3))
    return held


def pyscf_energies(arguments: argparse.Namespace) -> dict[str, float]:
    """PySCF's plain PBE energies, everything included, as a user would compute them."""
    from pyscf import dft, gto

    def energies() -> None:
        for molecule in molecules_of(arguments).values():
            mol = gto.M(
                atom=[(s, x) for s, x in zip(molecule.symbols, molecule.coords.tolist(), strict=True)],
                unit="Bohr", charge=molecule.charge, spin=molecule.spin, basis=arguments.basis, verbose=0,
            )  # fmt: skip
            mf = (dft.RKS if mol.spin == 0 else dft.UKS)(mol, xc="pbe").density_fit()
            mf.grids.level = arguments.grid
            mf.kernel()
            assert mf.converged

    times = [timed(energies)[0] / len(arguments.molecules) for _ in range(3)]
    return {"time": statistics.median(times)}


def torch_dqc(arguments: argparse.Namespace, buckets: dict[str, Any]) -> dict[str, Any]:
    """PyTorch DQC's step on the first molecule, everything built anew, over ours on the average."""
    from gradient import run_script

    arguments.threads, arguments.time_limit = os.cpu_count(), 600
    peer = run_script(arguments.torch_dqc, "torch_dqc", arguments.molecules[0], "step", arguments)
    if "failed" in peer:
        print(peer["failed"])
        return peer
    alone = argparse.Namespace(**{**vars(arguments), "molecules": arguments.molecules[:1]})
    ours_alone = ours("buckets", dqc.neural("pbe"), alone)
    theirs, step = statistics.median(peer["seconds"]), ours_alone["step"]
    anew = step - ours_alone["fields"] + ours_alone["first fields"]
    name = arguments.molecules[0]
    print(
        f"{name}: PyTorch DQC's step {theirs:.3f} s, ours {step:.3f} s ({step / theirs:.3f} of it), "
        f"with new fields {anew:.3f} s ({anew / theirs:.3f})"
    )
    return peer | {"ours": ours_alone}


def timed(task: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(task())
    return time.perf_counter() - start, result


if __name__ == "__main__":
    sys.exit(main())
