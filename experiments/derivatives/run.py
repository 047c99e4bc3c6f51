"""Implicit derivatives of self-consistent fields, unrolled ones and finite differences. See README.md."""

from __future__ import annotations

import argparse
import json
import time
import tomllib
from itertools import groupby
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from pyscf import dft

import dqc
import dqc.cache
from dqc.basis import pyscf_mole
from dqc.types import pytree, replace

HERE = Path(__file__).parent
BASIS, GRID = "def2-svp", 2
TOLERANCE, TIGHT, UNROLLED = 1e-9, 1e-10, 1e-11  # implicit; finite differences; unrolled
UNROLLED_ITERATIONS = 60
ITERATIONS = 600  # open-shell atoms turn freely, but for the grid: their last digits take long
STEPS = {"t": 0.01, "e": 0.001, "s": 0.005}  # relative; atomic units of field; bohr
SMALLEST_SCALE = 1e-2  # a derivative below it is compared absolutely, in units of it
DEGENERATE = 1e-4  # hartree; the grid is not round, so atoms' shells are degenerate to about 1e-6
VALUES = ("E", "mu", "PR", "PSPT", "levels0", "levels1", "levels2")
GRADIENT = ("dE/dt", "dE/de", "dE/ds")
FREE = {"E", "PSPT", "levels0", "levels1", "levels2", "dE/dt"}  # blind to how an open shell is turned


@pytree
class Neural:
    """LDA exchange times 1 + 0.05 net(s^2/(1 + s^2), zeta^2) for each spin, net having one hidden layer."""

    hidden: Float[Array, "..."]  # from the two features and 1 to the hidden units
    out: Float[Array, "..."]

    @property
    def needs(self) -> dqc.Needs:
        return dqc.Needs("gga")

    def exchange(self) -> dict[float, Float[Array, ""]]:
        return {}

    def __call__(self, features: dqc.Features) -> Float[Array, " g"]:
        total = jnp.maximum(features.rho.sum(0), 1e-14)
        zeta2 = ((features.rho[0] - features.rho[1]) / total) ** 2

        def channel(rho: Array, grad: Array) -> Array:
            live = rho > 1e-14
            n = jnp.where(live, rho, 1.0)
            s2 = (grad**2).sum(0) / (4 * (6 * jnp.pi**2) ** (2 / 3) * n ** (8 / 3))
            x = jnp.stack([s2 / (1 + s2), zeta2, jnp.ones_like(n)])
            net = self.out @ jnp.tanh(self.hidden @ x)
            e = -0.75 * (6 / jnp.pi) ** (1 / 3) * n ** (4 / 3) * (1 + 0.05 * net)
            return jnp.where(live, e, 0.0)

        return channel(features.rho[0], features.grad[0]) + channel(features.rho[1], features.grad[1])


@pytree
class Problem:
    """A system and the directions in which it moves: t in the functional, e in the field, s of the nuclei."""

    system: dqc.System
    xc: dqc.Functional
    along_t: dqc.Functional
    field: Float[Array, " x"]
    along_e: Float[Array, " x"]
    along_s: Float[Array, "a x"]
    matrix: Float[Array, "n n"]
    levels: Float[Array, "q s k"]  # weights of the orbital energies

    def moved(self, t: Any, e: Any, s: Any) -> tuple[dqc.System, dqc.Functional]:
        xc = jax.tree.map(lambda x, dx: x + t * dx, self.xc, self.along_t)
        system = dqc.at(self.system, self.system.coords + s * self.along_s)
        return dqc.in_field(system, self.field + e * self.along_e), xc

    def unmoved(self, t: Any) -> tuple[dqc.System, dqc.Functional]:
        """The same but for e and s, and without integrals computed anew."""
        xc = jax.tree.map(lambda x, dx: x + t * dx, self.xc, self.along_t)
        return dqc.in_field(self.system, self.field), xc

    def observed(self, system: dqc.System, solution: dqc.Solution) -> Float[Array, " q"]:
        P, S, T = solution.density_matrix, system.overlap, system.kinetic
        return jnp.stack([
            solution.energy,
            dqc.dipole(system, solution) @ self.along_e,
            jnp.einsum("spq,pq->", P, self.matrix),
            jnp.einsum("spq,qr,srt,tp->", P, S, P, T),
            *jnp.einsum("qsk,sk->q", self.levels, solution.mo_energy),
        ])  # fmt: skip


@jax.jit
def start(problem: Problem, moments: Array | None) -> dqc.Solution:
    return dqc.scf(*problem.unmoved(0.0), moments=moments, tolerance=TOLERANCE, max_iterations=ITERATIONS)


def first(t: Any, e: Any, s: Any, problem: Problem, guess: Array, tolerance: Any) -> tuple[Array, Any]:
    """Observed values and the gradient of the energy, with the report on responses and the solution."""

    def energy(*x: Any) -> tuple[Array, Any]:
        system, xc = problem.moved(*x)
        solution = dqc.scf(system, xc, guess=guess, tolerance=tolerance, max_iterations=ITERATIONS)
        return solution.energy, (problem.observed(system, solution), solution)

    gradient, (values, solution) = jax.grad(energy, (0, 1, 2), has_aux=True)(t, e, s)
    return jnp.concatenate([values, jnp.stack(gradient)]), solution


point = jax.jit(first)


@jax.jit
def forward(problem: Problem, guess: Array, tolerance: Any) -> tuple[Any, Any]:
    """Derivatives by t and e, of the gradient as well, and the reports on the two responses."""

    def f(t: Any, e: Any) -> tuple[Array, dqc.Response]:
        out, solution = first(t, e, 0.0, problem, guess, tolerance)
        return out, solution.response

    return jax.jacfwd(f, (0, 1))(0.0, 0.0)


@jax.jit
def reverse(problem: Problem, guess: Array, tolerance: Any) -> tuple[Any, Any]:
    """Derivatives of the observed values by t, e and s, and the reports on the responses to each."""

    def f(t: Any, e: Any, s: Any, report: dqc.Response) -> Array:
        system, xc = problem.moved(t, e, s)
        solution = dqc.scf(
            system, xc, guess=guess, tolerance=tolerance, response=report, max_iterations=ITERATIONS
        )
        return problem.observed(system, solution)

    zero = jnp.zeros(())
    *slopes, report = jax.jacrev(f, (0, 1, 2, 3))(zero, zero, zero, dqc.no_response())
    return slopes, report


@jax.jit
def unrolled(problem: Problem, moments: Array | None) -> tuple[Array, Array, Array]:
    """Values, derivatives by t of the iterations themselves, and whether they converged."""

    def f(t: Any) -> tuple[Array, Array]:
        system, xc = problem.unmoved(t)
        solution = dqc.scf(
            system, xc, moments=moments, tolerance=UNROLLED, adjoint="unrolled",
            max_iterations=UNROLLED_ITERATIONS,
        )  # fmt: skip
        return problem.observed(system, solution), solution.converged

    return jax.jvp(f, (0.0,), (1.0,), has_aux=True)


def functional(entry: dict[str, Any], name: str) -> tuple[dqc.Functional, dqc.Functional]:
    """A functional and the direction theta in which it moves."""
    if entry.get("neural"):
        shapes, rng = ((8, 3), (8,)), np.random.default_rng(0)
        xc, along = (Neural(*(jnp.asarray(rng.normal(size=s)) for s in shapes)) for _ in range(2))
        return xc, along
    if entry.get("scale"):
        xc = jnp.asarray(1.0) * dqc.functional(name)
    else:
        xc = dqc.functional(name, trainable=(entry["constant"],))
    return xc, xc  # t is the relative change of its only leaf


def molecule(entry: dict[str, Any]) -> dqc.Molecule:
    if "file" in entry:
        return dqc.Molecule.from_xyz(HERE.parent.parent / "examples" / f"{entry['file']}.xyz")
    return dqc.Molecule.from_string(entry["atoms"], charge=entry.get("charge", 0), spin=entry.get("spin"))


def built(entry: dict[str, Any], xc: dqc.Functional) -> dqc.System:
    """The system, with two rows of occupations where the start breaks the symmetry of the spins."""
    system = dqc.build(molecule(entry), BASIS, xc, grid=GRID)
    if "moments" in entry:
        rows = system.occupations
        system = replace(system, occupations=jnp.concatenate([rows, rows]) / 2)
    return system


def posed(system: dqc.System, xc: Any, along: Any, atoms: int, entry: dict[str, Any], field: Any) -> Problem:
    """The problem, its directions being random and fixed; the weights of the levels are still zero."""
    rng = np.random.default_rng(1)
    n, matrix = system.overlap.shape[0], rng.normal(size=(200, 200))
    moves, along_e = np.zeros(system.coords.shape), rng.normal(size=3)
    moves[:atoms] = rng.normal(size=(atoms, 3))
    return Problem(
        system=system,
        xc=xc,
        along_t=along,
        field=jnp.asarray(field or [0.0] * 3),
        along_e=jnp.asarray(along_e / np.linalg.norm(along_e)),
        along_s=jnp.asarray(moves / np.linalg.norm(moves)),
        matrix=jnp.asarray(matrix + matrix.T)[:n, :n] / 10,
        levels=jnp.zeros((3, system.occupations.shape[0], n)),
    )


def level_weights(solution: dqc.Solution) -> Float[Array, "q s k"]:
    """The sum over the occupied orbitals of each spin, the HOMOs' mean and, restricted, the LUMOs' mean."""
    e = np.asarray(solution.mo_energy)
    f = np.pad(np.asarray(solution.occupations), ((0, 0), (0, e.shape[1] - solution.occupations.shape[1])))
    sums = [np.where(np.arange(len(e))[:, None] == s, f > 0, 0.0) for s in range(len(e))]
    homo = (f > 0) & (np.abs(e - e[f > 0].max()) < DEGENERATE)
    empty = (f == 0) & (e < 5000)
    lumo = empty & (np.abs(e - np.where(empty, e, np.inf).min()) < DEGENERATE)
    return jnp.asarray(np.stack([*sums, homo / homo.sum(), lumo / lumo.sum()])[:3], float)


def differences(problem: Problem, guess: Array, which: str) -> tuple[np.ndarray, np.ndarray]:
    """Four-point differences at one step and at twice that, of re-converged fields."""
    h = STEPS[which]

    def at(k: int) -> np.ndarray:
        x = {"t": 0.0, "e": 0.0, "s": 0.0} | {which: k * h}
        out, solution = point(*x.values(), problem, guess, TIGHT)
        return np.asarray(out) if bool(solution.converged) else np.full(out.shape, np.nan)

    f = {k: at(k) for k in (-4, -2, -1, 1, 2, 4)}
    central = {k: (8 * (f[k] - f[-k]) - (f[2 * k] - f[-2 * k])) / (12 * k * h) for k in (1, 2)}
    return central[1], central[2]


def polarizability_by_pyscf(problem: Problem, entry: dict[str, Any], name: str) -> float:
    """The same element of the polarizability from PySCF's dipoles in fields, four points."""
    mole = pyscf_mole(molecule(entry), BASIS)
    mole.basis = BASIS
    h, u = 2 * STEPS["e"], np.asarray(problem.along_e)
    positions = mole.intor("int1e_r")

    def moment(k: int, dm: Any = None) -> tuple[float, Any]:
        mf = dft.RKS(mole, xc=name).density_fit()
        mf.grids.level, mf.conv_tol, mf.conv_tol_grad, mf.verbose = GRID, 1e-12, 1e-8, 0
        h1 = mf.get_hcore() + np.einsum("x,xpq->pq", k * h * u, positions)
        mf.get_hcore = lambda *_: h1
        mf.kernel(dm)
        dm = mf.make_rdm1()
        return -float(np.einsum("x,xpq,qp->", u, positions, dm)), dm

    dm = moment(0)[1]
    f = {k: moment(k, dm)[0] for k in (-2, -1, 1, 2)}
    return (8 * (f[1] - f[-1]) - (f[2] - f[-2])) / (12 * h)


def compare(problem: Problem, entry: dict[str, Any], task: dict[str, Any]) -> dict[str, Any]:
    """One row of the results: every derivative of one system and functional."""
    rows, free = problem.system.occupations.shape[0], "field" in entry and task["field"] is None
    moments = None
    if rows == 2:
        given = entry.get("moments", [])
        moments = jnp.zeros(len(problem.system.charges)).at[: len(given)].set(jnp.asarray(given, float))
    clock = [time.perf_counter()]
    begun = start(problem, moments)
    problem = replace(problem, levels=level_weights(begun))
    values, solution = point(0.0, 0.0, 0.0, problem, begun.density_matrix, TOLERANCE)
    guess = solution.density_matrix
    clock.append(time.perf_counter())
    by_forward, told = forward(problem, guess, TOLERANCE)
    by_forward = dict(zip("te", np.asarray(jnp.stack(by_forward)), strict=True))
    clock.append(time.perf_counter())
    by_reverse, back = reverse(problem, guess, TOLERANCE)
    by_reverse = dict(zip("tes", np.asarray(jnp.stack(by_reverse)), strict=True))
    clock.append(time.perf_counter())
    other, by_unrolled, unrolled_converged = (np.asarray(x) for x in unrolled(problem, moments))
    clock.append(time.perf_counter())
    same = np.abs(other - np.asarray(values)[: len(VALUES)]).max() < 1e-6
    derivatives = []
    for which in "t" if free else "tes":
        near, far = differences(problem, guess, which)
        for k, quantity in enumerate(VALUES + GRADIENT):
            if (free and quantity not in FREE) or (which == "s" and quantity in GRADIENT):
                continue
            found = {
                "of": quantity,
                "by": which,
                "fd": float(near[k]),
                "fd_double_step": float(far[k]),
            }
            if quantity == "E":  # the gradient, whose own derivatives are the second ones
                found["forward"] = float(values[len(VALUES) + "tes".index(which)])
            elif which in by_forward:
                found["forward"] = float(by_forward[which][k])
            if k < len(VALUES):
                found["reverse"] = float(by_reverse[which][k])
            if which == "t" and k < len(VALUES):
                found["unrolled"] = float(by_unrolled[k])
            derivatives.append(found)
    clock.append(time.perf_counter())
    report = jax.tree.map(lambda x: x[0], told, is_leaf=lambda x: isinstance(x, tuple))  # of t
    row: dict[str, Any] = {
        "energy": float(values[0]),
        "residual": float(solution.residual),
        "zero_mode": report.zero_mode,
        "smallest": float(report.smallest),
        "minres": [int(x) for x in told.iterations],
        "minres_reverse": np.asarray(back.iterations).astype(int).tolist(),
        "unrolled_converged": bool(unrolled_converged),
        "unrolled_same_state": bool(same),
        "derivatives": derivatives,
    }
    if rows == 1 and not isinstance(problem.xc, Neural):
        row["pyscf_polarizability"] = polarizability_by_pyscf(problem, entry, task["xc"])
    clock.append(time.perf_counter())
    row["seconds_of_parts"] = np.round(np.diff(clock), 1).tolist()
    return row


def deviations(row: dict[str, Any], d: dict[str, Any]) -> dict[str, float]:
    """Of one derivative, relative to its size; where it is small, to SMALLEST_SCALE."""
    implicit = d.get("forward", d.get("reverse"))
    scale = max(abs(d["fd"]), SMALLEST_SCALE)
    found = {"implicit": implicit, "fd": abs(implicit - d["fd"]) / scale}
    found["floor"] = abs(d["fd"] - d["fd_double_step"]) / scale
    if "forward" in d and "reverse" in d:
        found["modes"] = abs(d["forward"] - d["reverse"]) / scale
    if "unrolled" in d and row["unrolled_same_state"]:
        found["unrolled"] = abs(implicit - d["unrolled"]) / scale
    return found


def exceeds(value: float, most: float) -> bool:
    """Whether a deviation is larger than the largest so far; nothing exceeds NaN."""
    return not (value <= most or np.isnan(most))


def table(rows: list[dict[str, Any]], full: bool) -> str:
    """Each derivative (if asked for), then the largest deviation of each row, and of each quantity."""
    lines, worst = [], {}
    each = (
        f"{'system':<19}{'xc':<8}{'field':<6}{'quantity':<14}{'implicit':>16}{'finite diff.':>16}"
        f"{'|i-FD|':>9}{'FD floor':>9}{'modes':>9}{'|i-unr.|':>9} MINRES zero mode"
    )
    for row in rows:
        head = f"{row['system']:<19}{row['xc']:<8}{'yes' if row['field'] else '-':<6}"
        most = {"fd": (0.0, "-", 0.0), "modes": (0.0, "-", 0.0), "unrolled": (0.0, "-", 0.0)}
        for d in row["derivatives"]:
            x, name = deviations(row, d), f"d{d['of']}/d{d['by']}"
            shown = [f"{x[k]:>9.0e}" if k in x else f"{'':>9}" for k in ("fd", "floor", "modes", "unrolled")]
            minres = row["minres"]["te".index(d["by"])] if d["by"] in "te" else max(row["minres_reverse"])
            lines.append(
                f"{head}{name:<14}{x['implicit']:>16.9f}{d['fd']:>16.9f}{''.join(shown)}"
                f"{minres:>7} {row['zero_mode']}"
            )
            for k in most:
                if k in x and exceeds(x[k], most[k][0]):
                    most[k] = (x[k], name, x["floor"])
                if k in x and exceeds(x[k], worst.get((name, k), 0.0)):
                    worst[name, k] = x[k]
        row["most"] = most
    lines = [each, *lines, ""] if full else []
    lines.append(
        f"{'system':<19}{'xc':<8}{'field':<6}{'largest |implicit - FD| (its floor)':<40}"
        f"{'|forward - reverse|':<24}{'|implicit - unrolled|':<24}{'PySCF polar.':>12} MINRES zero mode"
    )
    for row in rows:
        most = row["most"]
        alpha = [d["forward"] for d in row["derivatives"] if (d["of"], d["by"]) == ("mu", "e")]
        peer = (
            f"{abs(alpha[0] / row['pyscf_polarizability'] - 1):.0e}" if "pyscf_polarizability" in row else ""
        )
        fd = f"{most['fd'][0]:.0e} of {most['fd'][1]} ({most['fd'][2]:.0e})"
        modes, un = (f"{most[k][0]:.0e} of {most[k][1]}" for k in ("modes", "unrolled"))
        un = un if row["unrolled_same_state"] else "another state"
        lines.append(
            f"{row['system']:<19}{row['xc']:<8}{'yes' if row['field'] else '-':<6}{fd:<40}{modes:<24}{un:<24}"
            f"{peer:>12}{max(row['minres']):>7} {row['zero_mode']}"
        )
    lines += ["", "largest of each quantity: " + ", ".join(
        f"{name} {value:.0e}" for (name, k), value in worst.items() if k == "fd"
    )]  # fmt: skip
    return "\n".join(lines)


def tasks(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Functional by functional, restricted systems first: those share one compiled shape."""
    found = []
    for xc in config["functionals"]:
        for name, entry in config["systems"].items():
            fields = [None, entry["field"]] if "field" in entry else [None]
            found += [{"system": name, "xc": xc, "field": field} for field in fields]
    return found


def run(config: dict[str, Any], todo: list[dict[str, Any]], results: Path) -> None:
    """All that is left to do, padding the systems of each functional and kind of spin to one shape."""
    for name, group in groupby(todo, lambda task: task["xc"]):
        wanted = list(group)
        xc, along = functional(config["functionals"][name], name)
        systems = {k: built(entry, xc) for k, entry in config["systems"].items()}
        for rows in (1, 2):
            alike = {k: s for k, s in systems.items() if s.occupations.shape[0] == rows}
            shape = dqc.common_shape(list(alike.values()))
            for task in (t for t in wanted if t["system"] in alike):
                entry, system = config["systems"][task["system"]], alike[task["system"]]
                started = time.perf_counter()
                padded = dqc.pad(system, shape)
                problem = posed(padded, xc, along, len(system.charges), entry, task["field"])
                row = task | compare(problem, entry, task)
                row["seconds"] = round(time.perf_counter() - started, 1)
                with results.open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(table([row], full=True), row["seconds"], row["seconds_of_parts"], flush=True)
            jax.clear_caches()  # many compiled programs exhaust a process's memory maps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path, help="a JSON-lines file; what it already holds is not repeated")
    parser.add_argument("--only", nargs="+", help="names of systems")
    parser.add_argument("--xc", nargs="+", help="names of functionals")
    parser.add_argument("--table", action="store_true", help="print what there is and run nothing")
    parser.add_argument("--full", action="store_true", help="every derivative in the table")
    options = parser.parse_args()
    dqc.cache.enable()
    config = tomllib.loads((HERE / "systems.toml").read_text())

    def read() -> list[dict[str, Any]]:
        lines = options.results.read_text().splitlines() if options.results.exists() else []
        return [json.loads(line) for line in lines]

    done = read()
    todo = [
        task
        for task in tasks(config)
        if (not options.only or task["system"] in options.only)
        and (not options.xc or task["xc"] in options.xc)
        and not any(task.items() <= row.items() for row in done)
    ]
    if not options.table:
        run(config, todo, options.results)
    print(table(read(), options.full))


if __name__ == "__main__":
    main()
