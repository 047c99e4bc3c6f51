"""Random densities, and libxc's answer on them with its thresholds out of the way."""

from __future__ import annotations

import ctypes
from math import pi

import numpy as np
from pyscf.dft import libxc

from dqc.xc.features import Features

C_X = 0.75 * (6 / pi) ** (1 / 3)


def densities(n: int, seed: int = 0, *, low: float = 1e-8, high: float = 100.0) -> tuple[np.ndarray, ...]:
    """rho, grad, tau with low <= rho <= high, s <= 5 a spin, |zeta| <= 1 - 1e-6, tau >= tau_W.

    libxc works with zeta = (rho_a - rho_b)/rho and loses digits of 1 - |zeta| when it rounds it. The
    total density has 30 bits and zeta is a multiple of 2^-20, so that zeta here is exact.
    """
    rng = np.random.default_rng(seed)
    mantissa, exponent = np.frexp(np.exp(rng.uniform(np.log(low), np.log(high), n)))
    total = np.ldexp(np.maximum(np.round(mantissa * 2.0**30), 2.0**29 + 1), exponent - 30)
    zeta = np.round(np.tanh(rng.uniform(-7.5, 7.5, n)) * 2.0**20) / 2.0**20
    zeta = np.clip(zeta, -1 + 2.0**-19, 1 - 2.0**-19)
    zeta[: n // 10] = 0.0
    rho = np.stack([total * (1 + zeta) / 2, total * (1 - zeta) / 2])
    assert np.all((rho[0] - rho[1]) / (rho[0] + rho[1]) == zeta)
    direction = rng.normal(size=(2, 3, n))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    norm = 2 * (6 * pi**2) ** (1 / 3) * rho ** (4 / 3) * rng.uniform(0, 5, (2, n))
    excess = rng.uniform(0, 3, (2, n)) * 0.3 * (6 * pi**2) ** (2 / 3) * rho ** (5 / 3)
    return rho, norm[:, None] * direction, norm**2 / (8 * rho) + excess


def features(rho, grad, tau, **kwargs) -> Features:
    return Features(rho, grad, tau, **kwargs)


def libxc_values(name: str, rho: np.ndarray, grad: np.ndarray, tau: np.ndarray) -> list[np.ndarray]:
    """Energy per volume and its derivatives with respect to rho, grad (and tau), by libxc."""
    xc = libxc.XCFunctionalCache(name, 1)
    for functional in xc.xc_objs:
        for what, value in (("dens", 1e-30), ("zeta", 1e-16), ("sigma", 1e-60), ("tau", 1e-60)):
            getattr(libxc._itrf, f"xc_func_set_{what}_threshold")(functional, ctypes.c_double(value))
    rows = {"LDA": rho[:, None], "GGA": np.concatenate([rho[:, None], grad], 1)}
    rows["MGGA"] = np.concatenate([rows["GGA"], tau[:, None]], 1)
    rung = xc.xc_type
    x, n = np.ascontiguousarray(rows[rung]), rho.shape[1]
    out = np.zeros({"LDA": (3, n), "GGA": (6, n), "MGGA": (8, n)}[rung])
    factors = (ctypes.c_double * xc.nfunc)(*xc.facs)
    libxc._itrf.LIBXC_eval_xc(
        xc.nfunc, xc.xc_arr, factors, 1, 1, x.shape[1], n, len(out), x.ctypes, out.ctypes
    )
    values = [out[0] * rho.sum(0), out[1:3]]
    if rung != "LDA":
        aa, ab, bb = out[3:6]
        values.append(np.stack([2 * aa * grad[0] + ab * grad[1], 2 * bb * grad[1] + ab * grad[0]]))
    if rung == "MGGA":
        values.append(out[6:8])
    return values


def scales(rho: np.ndarray) -> list[np.ndarray]:
    """The size of LDA exchange for the energy and for each derivative (at s = 1, and per tau_unif)."""
    e = C_X * rho ** (4 / 3)
    gradient = e / (2 * (6 * pi**2) ** (1 / 3) * rho ** (4 / 3))
    kinetic = e / (0.3 * (6 * pi**2) ** (2 / 3) * rho ** (5 / 3))
    return [e.sum(0), 4 / 3 * e / rho, gradient[:, None], kinetic]
