"""Energy density and potential of each functional, ours against libxc.

    python benchmarks/functional.py [names]
    python benchmarks/functional.py --neural     # neural functionals, beside PBE and in fields

Medians of at least three runs on a million points, both programs in the same process with the same
threads (set OMP_NUM_THREADS; the recorded figures use 2). Ours is one jitted function: value, and gradient by
``jax.vjp`` with respect to every feature. libxc's is ``pyscf.dft.libxc.eval_xc1`` with first derivatives.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from math import pi
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from pyscf.dft import libxc

import dqc.cache
from dqc.molecule import Molecule
from dqc.scf import scf
from dqc.system import build
from dqc.xc.features import Features
from dqc.xc.functional import Functional
from dqc.xc.names import functional
from dqc.xc.neural import neural

NAMES = "lda, lda,pw svwn pbe revpbe rpbe blyp b3lyp pbe0 tpss scan r2scan camb3lyp lc_wpbe".split()

NEURAL = (
    ("lda,pw_mod", None, "LDA"),
    ("pbe", None, "GGA (PBE)"),
    ("r2scan", None, "meta-GGA (r2SCAN)"),
    ("pbe0", None, "hybrid (PBE0)"),
    ("lc_wpbe", None, "range-separated (LC-wPBE)"),
    ("0.25*hf + 0.75*r2scan, r2scan", "local_hybrid", "local hybrid (of r2SCAN0)"),
)


def median(run: Callable[[], object], repeats: int) -> float:
    """Median wall time in seconds of ``repeats`` runs after one to warm up."""
    return medians([run], repeats)[0]


def medians(runs: Sequence[Callable[[], object]], repeats: int) -> list[float]:
    """The same of several that take turns."""
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(repeats + 1):
        for run, own in zip(runs, times, strict=True):
            start = time.perf_counter()
            run()
            own.append(time.perf_counter() - start)
    return [statistics.median(own[1:]) for own in times]


def densities(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random spin densities, gradients and kinetic energy densities."""
    rng = np.random.default_rng(0)
    total, zeta = 10 ** rng.uniform(-6, 1, n), rng.uniform(-0.9, 0.9, n)
    rho = np.stack([total * (1 + zeta), total * (1 - zeta)]) / 2
    norm = 2 * (6 * pi**2) ** (1 / 3) * rho ** (4 / 3) * rng.uniform(0, 5, (2, n))
    direction = rng.normal(size=(2, 3, n))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    excess = 0.3 * (6 * pi**2) ** (2 / 3) * rho ** (5 / 3) * rng.uniform(0, 3, (2, n))
    return rho, norm[:, None] * direction, norm**2 / (8 * rho) + excess


def as_features(points: tuple[np.ndarray, ...], rung: str, closed: bool) -> Features:
    rho, grad, tau = (np.repeat(x[:1], 2, axis=0) for x in points) if closed else points
    return Features(
        jnp.asarray(rho),
        jnp.asarray(grad) if rung != "lda" else None,
        jnp.asarray(tau) if rung == "mgga" else None,
        closed_shell=closed,
    )


def ours(f: Functional, x: Features, repeats: int) -> tuple[float, float]:
    """Seconds of value and potential, and of their compilation."""

    def value_and_potential(f: Functional, x: Features) -> tuple:
        e, pull = jax.vjp(f, x)
        return e, pull(jnp.ones_like(e))

    start = time.perf_counter()
    compiled = jax.jit(value_and_potential).lower(f, x).compile()
    compilation = time.perf_counter() - start
    return median(lambda: jax.block_until_ready(compiled(f, x)), repeats), compilation


def libxcs(name: str, rung: str, closed: bool, points: tuple[np.ndarray, ...], repeats: int) -> float:
    """Seconds of libxc."""
    rho, grad, tau = (np.repeat(x[:1], 2, axis=0) for x in points) if closed else points
    rows = {"lda": rho, "gga": np.concatenate([rho[:, None], grad], 1)}
    rows["mgga"] = np.concatenate([rows["gga"], tau[:, None]], 1)
    x = np.ascontiguousarray(rows[rung].sum(0) if closed else rows[rung])
    return median(lambda: libxc.eval_xc1(name, x, 0 if closed else 1, 1), repeats)


def literature(names: list[str], points: tuple[np.ndarray, ...], repeats: int) -> None:
    print("| functional | shells | ours, ms | libxc, ms | ratio | compilation, s |")
    print("|---|---|---|---|---|---|")
    for name in names:
        for closed in (True, False):
            f = functional(name)
            mine, compilation = ours(f, as_features(points, f.needs.rung, closed), repeats)
            theirs = libxcs(name, f.needs.rung, closed, points, repeats)
            print(
                f"| {name} | {'closed' if closed else 'open'} | {1e3 * mine:.0f} | {1e3 * theirs:.0f} "
                f"| {mine / theirs:.2f} | {compilation:.1f} |",
                flush=True,
            )


def networks(points: tuple[np.ndarray, ...], repeats: int) -> None:
    """Neural functionals: on points over PBE, and a field's time over that of the parent's."""
    for _ in range(2):  # the first arrays of this size are slow
        pbe = ours(functional("pbe"), as_features(points, "gga", True), repeats)[0]
    print(f"PBE: {1e3 * pbe:.0f} ms, closed shells")
    print("| parent | points, over PBE | over the parent | SCF over the parent's, water | ethanol |")
    print("|---|---|---|---|---|")
    for parent, rung, kind in NEURAL:
        xc, literature = neural(parent, rung), functional(parent)
        cells = ["-", "-"]
        if not xc.needs.exchange_density:
            x = as_features(points, xc.needs.rung, True)
            mine, theirs = ours(xc, x, repeats)[0], ours(literature, x, repeats)[0]
            cells = [f"{mine / pbe:.1f}", f"{mine / theirs:.1f}"]
        for molecule in ("water", "ethanol"):
            mine, theirs = fields(molecule, (xc, literature), 3 * repeats)
            cells.append(f"{mine / theirs:.2f} ({theirs:.3f} s)")
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


def fields(molecule: str, functionals: Sequence[Functional], repeats: int) -> list[float]:
    """Seconds of self-consistent fields in def2-SVP, compilation and integrals left out."""
    geometry = Molecule.from_xyz(Path(__file__).parent.parent / "examples" / f"{molecule}.xyz")
    pairs = [(build(geometry, "def2-svp", xc), xc) for xc in functionals]
    return medians([lambda p=pair: jax.block_until_ready(scf(*p)) for pair in pairs], repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--neural", action="store_true")
    arguments = parser.parse_args()
    points, repeats = densities(arguments.points), max(3, arguments.repeats)
    dqc.cache.enable()
    if arguments.neural:
        networks(points, repeats)
    else:
        literature(arguments.names, points, repeats)


if __name__ == "__main__":
    main()
