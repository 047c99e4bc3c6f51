"""Energy density and potential of each functional, ours against libxc.

    python benchmarks/functional.py [names]

Medians of at least three runs on a million points, both programs in the same process with the same
threads (set OMP_NUM_THREADS; the recorded figures use 2). Ours is one jitted function: value, and gradient by
``jax.vjp`` with respect to every feature. libxc's is ``pyscf.dft.libxc.eval_xc1`` with first derivatives.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from math import pi

import jax
import jax.numpy as jnp
import numpy as np
from pyscf.dft import libxc

from dqc.xc.features import Features
from dqc.xc.names import functional

NAMES = "lda, lda,pw svwn pbe revpbe rpbe blyp b3lyp pbe0 tpss scan r2scan camb3lyp lc_wpbe".split()


def median(run: Callable[[], object], repeats: int) -> float:
    """Median wall time in seconds of ``repeats`` runs after one to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


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


def measure(
    name: str, closed: bool, points: tuple[np.ndarray, ...], repeats: int
) -> tuple[float, float, float]:
    """Seconds of ours, of libxc, and of our compilation."""
    f = functional(name)
    rho, grad, tau = (np.repeat(x[:1], 2, axis=0) for x in points) if closed else points
    rows = {"lda": rho, "gga": np.concatenate([rho[:, None], grad], 1)}
    rows["mgga"] = np.concatenate([rows["gga"], tau[:, None]], 1)
    theirs = rows[f.needs.rung]
    theirs = np.ascontiguousarray(theirs.sum(0) if closed else theirs)
    x = Features(
        jnp.asarray(rho),
        jnp.asarray(grad) if f.needs.rung != "lda" else None,
        jnp.asarray(tau) if f.needs.rung == "mgga" else None,
        closed_shell=closed,
    )

    def value_and_potential(x):
        e, pull = jax.vjp(f, x)
        return e, pull(jnp.ones_like(e))

    start = time.perf_counter()
    compiled = jax.jit(value_and_potential).lower(x).compile()
    compilation = time.perf_counter() - start
    ours = median(lambda: jax.block_until_ready(compiled(x)), repeats)
    return ours, median(lambda: libxc.eval_xc1(name, theirs, 0 if closed else 1, 1), repeats), compilation


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    points = densities(arguments.points)
    print("| functional | shells | ours, ms | libxc, ms | ratio | compilation, s |")
    print("|---|---|---|---|---|---|")
    for name in arguments.names:
        for closed in (True, False):
            ours, theirs, compilation = measure(name, closed, points, max(3, arguments.repeats))
            shells = "closed" if closed else "open"
            print(
                f"| {name} | {shells} | {1e3 * ours:.0f} | {1e3 * theirs:.0f} | {ours / theirs:.2f} "
                f"| {compilation:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
