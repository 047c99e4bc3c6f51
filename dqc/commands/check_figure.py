"""The picture of ``dqc check``: enhancement factors, where conditions fail, and E(N) of hydrogen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dqc import pictures
from dqc.losses.fractional import HYDRIDE, HYDROGEN
from dqc.xc.box import Points
from dqc.xc.constraints import CONDITIONS
from dqc.xc.enhancement import enhancement
from dqc.xc.functional import Functional
from dqc.xc.pointwise import LOCAL_BOUND, TWO_ELECTRON_BOUND


def draw(
    path: Path,
    name: str,
    xc: Functional,
    points: Points,
    values: dict[str, jax.Array],
    curve: list[tuple[float, float]],
) -> None:
    """Write the picture to a file."""
    figure = pictures.figure(11.0, 7.5)
    axes = figure.subplots(2, 3)
    figure.suptitle(name)
    _exchange(axes[0, 0], xc)
    _correlation(axes[0, 1], xc)
    third = "alpha" if xc.needs.rung == "mgga" else "zeta"
    _over_third(axes[0, 2], xc, third)
    _map(axes[1, 0], points, values, "r_s", "s")
    _map(axes[1, 1], points, values, third, "s")
    _electrons(axes[1, 2], curve)
    pictures.save(figure, path)


def _points(r_s: Any, s: Any, zeta: Any, alpha: Any) -> Points:
    axes = np.broadcast_arrays(*(np.asarray(x, float) for x in (r_s, s, zeta, alpha)))
    return Points(*(jnp.asarray(x) for x in axes))


def _exchange(ax: Any, xc: Functional) -> None:
    s = np.linspace(0.0, 5.0, 201)
    for alpha in (0.0, 1.0, 5.0) if xc.needs.rung == "mgga" else (1.0,):
        ax.plot(s, enhancement(xc).f_x(_points(1.0, s, 0.0, alpha)), label=rf"$\alpha$ = {alpha:g}")
    ax.axhline(LOCAL_BOUND, color="0.6", lw=0.8, ls="--")
    ax.axhline(TWO_ELECTRON_BOUND, color="0.6", lw=0.8, ls=":")
    title = f"exchange; bounds {LOCAL_BOUND} and {TWO_ELECTRON_BOUND}"
    ax.set(xlabel="$s$", ylabel="$F_x$", title=title, xlim=(0, 5))
    if xc.needs.rung == "mgga":
        ax.legend(frameon=False)


def _correlation(ax: Any, xc: Functional) -> None:
    s = np.linspace(0.0, 5.0, 201)
    for r_s in (0.5, 2.0, 5.0):
        for zeta, style in ((0.0, "-"), (1.0, "--")):
            line = ax.plot(s, enhancement(xc).f_c(_points(r_s, s, zeta, 1.0)), style, color=f"C{int(r_s)}")
            if not zeta:
                line[0].set_label(f"$r_s$ = {r_s:g}")
    ax.axhline(0.0, color="0.6", lw=0.8)
    ax.set(xlabel="$s$", ylabel="$F_c$", title=r"correlation ($\zeta$ = 1 dashed)", xlim=(0, 5))
    ax.legend(frameon=False)


def _over_third(ax: Any, xc: Functional, axis: str) -> None:
    """Both factors over alpha, or over zeta where the functional does not see alpha."""
    x, f = np.linspace(0.0, 5.0 if axis == "alpha" else 1.0, 201), enhancement(xc)
    for s in (0.0, 1.0, 3.0):
        points = _points(2.0, s, 0.0, x) if axis == "alpha" else _points(2.0, s, x, 1.0)
        ax.plot(x, f.f_x(points), color=f"C{int(s)}", label=f"$s$ = {s:g}")
        ax.plot(x, f.f_c(points), "--", color=f"C{int(s)}")
    ax.set(xlabel=rf"$\{axis}$", title=r"$F_x$ and $F_c$ (dashed) at $r_s$ = 2", xlim=(0, x[-1]))
    ax.legend(frameon=False)


def _map(ax: Any, points: Points, values: dict[str, jax.Array], across: str, up: str) -> None:
    """The number of conditions that fail anywhere on the two axes that are not shown."""
    x, y = (np.asarray(getattr(points, axis)) for axis in (across, up))
    columns, i = np.unique(x, return_inverse=True)
    rows, j = np.unique(y, return_inverse=True)
    count = np.zeros((len(rows), len(columns)))
    for name, violation in values.items():
        if not {across, up} <= set(CONDITIONS[name].varies.split()):
            continue
        failed = np.zeros_like(count)
        np.maximum.at(failed, (j, i), np.asarray(violation) > CONDITIONS[name].tolerance)
        count += failed
    if len(rows) == 1:
        rows, count = np.array([0.0, 5.0]), np.repeat(count, 2, axis=0)
    image = ax.pcolormesh(columns, rows, count, shading="nearest", cmap="magma_r", vmin=0)
    if across == "r_s":
        ax.set_xscale("log")
    label = {"r_s": "$r_s$", "alpha": r"$\alpha$", "zeta": r"$\zeta$"}[across]
    ax.set(xlabel=label, ylabel="$s$", title="number of conditions violated there")
    ax.figure.colorbar(image, ax=ax)


def _electrons(ax: Any, curve: list[tuple[float, float]]) -> None:
    N, E = np.array(curve).T
    ax.plot([0, 1, 2], [0.0, HYDROGEN, HYDRIDE], color="0.4", lw=1, label="exact")
    ax.plot(N, E, "o-", ms=3, label="this functional")
    ax.set(xlabel="electrons", ylabel="$E$ / hartree", title="hydrogen, 0 to 2 electrons")
    ax.legend(frameon=False)
