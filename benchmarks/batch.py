"""Different small molecules in buckets of one shape, solved by ``vmap``, against one by one.

    python benchmarks/batch.py                       # PBE/def2-SVP, grid 3
    python benchmarks/batch.py --molecules water nitrogen ozone --repeats 5

Every batch solves its molecules in lockstep: each takes as many iterations as the slowest, and the lockstep
loss is slowest over mean. Padding waste is the share of the work on the grid that goes to ghosts. "batch" and
"single" are warm times for one molecule, in seconds (medians; the repeats of the two alternate); "padded" is
one by one in the bucket's shape, with one program for all. "first" are the first calls, compilation included.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

import dqc

EXAMPLES = Path(__file__).parent.parent / "examples"
MOLECULES = (
    "water formaldehyde acetylene nitrogen lithium_fluoride ozone hydrogen_chloride phosphine "
    "hydroxyl methyl methylene nitric_oxide cyano oxygen"
).split()

COLUMNS = {  # name -> width and format
    "AOs": (4, "d"),
    "size": (5, "d"),
    "waste": (6, ".2f"),
    "iterations": (16, "s"),
    "lockstep": (9, ".2f"),
    "batch": (8, ".3f"),
    "single": (8, ".3f"),
    "ratio": (7, ".2f"),
    "padded": (8, ".3f"),
    "first batch": (12, ".1f"),
    "first singles": (14, ".1f"),
    "dE / Ha": (9, ".1e"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--molecules", nargs="+", default=MOLECULES, metavar="NAME")
    parser.add_argument("--xc", default="pbe")
    parser.add_argument("--basis", default="def2-svp")
    parser.add_argument("--grid", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.repeats < 3:
        parser.error("--repeats must be at least 3: medians are reported")

    xc = dqc.functional(arguments.xc)
    systems = []
    for name in arguments.molecules:
        molecule = dqc.Molecule.from_xyz(EXAMPLES / f"{name}.xyz")
        systems.append(dqc.build(molecule, arguments.basis, xc, grid=arguments.grid))
    buckets = dqc.bucket(systems)
    print(
        f"{len(systems)} molecules in {len(buckets)} buckets, {arguments.xc}/{arguments.basis}, "
        f"grid {arguments.grid}, {jax.default_backend()}"
    )
    print("".join(f"{name:>{width}s}" for name, (width, _) in COLUMNS.items()) + "  molecules")
    rows = []
    for one in buckets:
        row = measure(systems, one, xc, arguments.repeats)
        numbers = "".join(f"{row[name]:>{width}{form}}" for name, (width, form) in COLUMNS.items())
        print(numbers + "  " + ", ".join(arguments.molecules[k] for k in one[0]), flush=True)
        rows.append(row)
    sizes = [len(indices) for indices, _ in buckets]
    batch, single = (float(np.dot(sizes, [row[k] for row in rows])) for k in ("batch", "single"))
    print(
        f"all: padding waste {dqc.padding_waste(systems, buckets):.2f}, batch {batch:.2f} s, "
        f"one by one {single:.2f} s, ratio {batch / single:.2f}, "
        f"largest |dE| {max(row['dE / Ha'] for row in rows):.1e} Ha"
    )


def measure(systems: list[dqc.System], one: tuple[list[int], dqc.System], xc: Any, repeats: int) -> dict:
    indices, batch = one
    members = [systems[k] for k in indices]
    together = jax.vmap(dqc.scf, in_axes=(0, None))
    tasks: dict[str, Callable[[], Any]] = {
        "batch": lambda: together(batch, xc),
        "single": lambda: [dqc.scf(s, xc) for s in members],
        "padded": lambda: [dqc.scf(s, xc) for s in dqc.unstack(batch)],
    }
    firsts = {name: timed(task) for name, task in tasks.items()}
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(repeats):
        for name, task in tasks.items():
            times[name].append(timed(task)[0])
    solutions, singles = firsts["batch"][1], firsts["single"][1]
    assert np.asarray(solutions.converged).all(), f"not converged: {np.asarray(solutions.converged)}"
    counts = np.asarray(solutions.iterations)
    energies = np.array([float(s.energy) for s in singles])
    row = {name: statistics.median(t) / len(members) for name, t in times.items()}
    return row | {
        "ratio": row["batch"] / row["single"],
        "size": len(members),
        "AOs": batch.overlap.shape[-1],
        "waste": dqc.padding_waste(members, [(list(range(len(members))), batch)]),
        "iterations": " ".join(map(str, counts)) if len(counts) < 6 else f"{counts.min()} to {counts.max()}",
        "lockstep": counts.max() / counts.mean(),
        "first batch": firsts["batch"][0],
        "first singles": firsts["single"][0],
        "dE / Ha": float(np.abs(np.asarray(solutions.energy) - energies).max()),
    }


def timed(task: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = jax.block_until_ready(task())
    return time.perf_counter() - start, result


if __name__ == "__main__":
    main()
