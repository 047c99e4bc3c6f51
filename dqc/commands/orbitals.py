"""``dqc orbitals``: a network becomes the orbitals of a molecule; checkpoints, and a picture of how."""

from __future__ import annotations

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

import dqc.cache
from dqc.cli import STATUS_FAILED
from dqc.commands.options import check_writable, write_text
from dqc.molecule import Molecule
from dqc.orbitals.neural import Neural
from dqc.orbitals.solution import NeuralSolution
from dqc.orbitals.training import Problem, State, advance, finish, prepare
from dqc.paths import existing, replacing
from dqc.variational import TOLERANCE
from dqc.xc.files import functional


def run(arguments: argparse.Namespace) -> int:
    """Minimise, print, and write; returns the exit status."""
    dqc.cache.enable()
    stem = Path(arguments.molecule).stem
    checkpoint = Path(arguments.checkpoint or f"{stem}_orbitals.npz")
    figure = Path(arguments.figure or f"{stem}_orbitals.png")
    check_writable(str(checkpoint), str(figure), arguments.json)
    molecule = Molecule.from_xyz(arguments.molecule, arguments.charge, arguments.spin)
    network = Neural(tuple(arguments.shells), tuple(arguments.hidden))
    header = _header(molecule, network, arguments)
    if arguments.resume:
        existing(checkpoint)
    print(
        f"{molecule.formula}, {arguments.xc}, neural orbitals, charge {molecule.charge}, spin {molecule.spin}"
    )
    problem, state = prepare(
        molecule, functional(arguments.xc), network, arguments.grid, arguments.seed,
        unrestricted=arguments.unrestricted,
    )  # fmt: skip
    if arguments.resume:
        state = restored(checkpoint, header, state)
    began = time.perf_counter()
    state = _descend(problem, state, arguments, checkpoint, header)
    solution = finish(problem, state)
    seconds = time.perf_counter() - began
    print(_table(solution, seconds))
    if arguments.json:
        write_text(Path(arguments.json), json.dumps(_record(header, solution, seconds), indent=2) + "\n")
    _draw(figure, f"{molecule.formula}, {arguments.xc}", solution)
    print(f"{solution.message} The network is in {checkpoint}, the picture in {figure}.")
    return 0 if bool(solution.converged) else STATUS_FAILED


def _descend(
    problem: Problem, state: State, arguments: argparse.Namespace, checkpoint: Path, header: dict[str, Any]
) -> State:
    """Steps behind a progress bar, each kept in the checkpoint when it is done."""
    with tqdm(total=arguments.steps, initial=int(state.step), unit="step") as bar:
        while int(state.step) < arguments.steps and not bool(state.converged):
            state = advance(problem, state, arguments.tolerance or TOLERANCE)
            keep(checkpoint, header, state)
            bar.set_postfix_str(f"{float(state.energy):.7f} Ha, gradient {state.history.residual[-1]:.0e}")
            bar.update()
    return state


def _header(molecule: Molecule, network: Neural, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a checkpoint belongs to."""
    return {
        "symbols": list(molecule.symbols),
        "coords_bohr": molecule.coords.tolist(),
        "charge": molecule.charge,
        "spin": molecule.spin,
        "unrestricted": arguments.unrestricted,
        "xc": arguments.xc,
        "grid": arguments.grid,
        "seed": arguments.seed,
        "network": json.loads(json.dumps(network._asdict())),
    }


def keep(path: Path, header: dict[str, Any], state: State) -> None:
    """Write a checkpoint in one step."""
    leaves = {f"leaf_{k}": np.asarray(leaf) for k, leaf in enumerate(jax.tree.leaves(state))}
    with replacing(path) as partial, partial.open("wb") as file:
        np.savez(file, header=json.dumps(header), **leaves)  # type: ignore[arg-type]


def restored(path: Path, header: dict[str, Any], start: State) -> State:
    """The state of a checkpoint; raises ValueError where that is of another calculation."""
    try:
        with np.load(path) as file:
            found = json.loads(str(file["header"]))
            leaves = [jnp.asarray(file[f"leaf_{k}"]) for k in range(len(jax.tree.leaves(start)))]
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{path} is no checkpoint of dqc orbitals; start anew without --resume.") from error
    other = sorted(name for name in header if found.get(name) != header[name])
    if other:
        raise ValueError(
            f"{path} is of another calculation: its {', '.join(other)} differ; give the same options, "
            "another --checkpoint, or start anew without --resume."
        )
    return jax.tree.unflatten(jax.tree.structure(start), leaves)


def _record(header: dict[str, Any], solution: NeuralSolution, seconds: float) -> dict[str, Any]:
    terms = dataclasses.asdict(solution.energies)
    return header | {
        "program": f"dqc {dqc.__version__}",
        "units": "hartree",
        "converged": bool(solution.converged),
        "steps": int(solution.iterations),
        "energy": float(solution.energy),
        "energy_error": float(solution.energy_error),
        "energies": {name: float(value) for name, value in terms.items()},
        "mo_energy": np.asarray(solution.mo_energy).tolist(),
        "history": np.asarray(solution.history.energy).tolist(),
        "seconds": seconds,
    }


def _table(solution: NeuralSolution, seconds: float) -> str:
    terms = dataclasses.asdict(solution.energies)
    rows = [(name.replace("_", " "), f"{float(value):.8f} Ha") for name, value in terms.items()]
    rows.append(("total energy", f"{float(solution.energy):.8f} Ha"))
    rows.append(("energy error", f"{float(solution.energy_error):.1e} Ha (quadrature, Poisson solver)"))
    levels = [
        np.asarray(e)[np.asarray(f) > 0]
        for e, f in zip(solution.mo_energy, solution.occupations, strict=True)
    ]
    for e, name in zip(
        levels, ("levels",) if len(levels) == 1 else ("levels, alpha", "levels, beta"), strict=True
    ):
        rows.append((name, " ".join(f"{x:.5f}" for x in np.sort(e)) + " Ha"))
    rows.append(("time", f"{seconds:.0f} s"))
    return "\n".join(f"{name:<20} {value}" for name, value in rows)


def _draw(path: Path, title: str, solution: NeuralSolution) -> None:
    """The energy above its last value and the gradient, step by step."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "the picture needs matplotlib, the extra 'notebooks': pip install dqc-jax[notebooks]"
        ) from error
    energy, residual = np.asarray(solution.history.energy), np.asarray(solution.history.residual)
    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = figure.subplots(2, 1, sharex=True)
    top.plot(energy, "o-", label="on the grids of the minimisation")
    spread = 1e3 * float(solution.energy_error)
    top.axhline(float(solution.energy), color="k", lw=0.8, label=f"on a finer grid, +- {spread:.1g} mHa")
    top.set(title=title, ylabel="energy / Ha")
    top.legend()
    bottom.semilogy(residual, "o-")
    bottom.set(xlabel="step", ylabel="norm of the gradient")
    with replacing(path) as partial:
        figure.savefig(partial, dpi=150, format="png")
