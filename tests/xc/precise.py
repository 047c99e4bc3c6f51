"""Energies per volume at 40 digits with mpmath, where double precision in libxc is not enough.

Functions of rho_a, rho_b, sigma_aa, sigma_ab, sigma_bb, tau_a, tau_b, straight from the papers.
"""

from __future__ import annotations

import mpmath as mp
from mpmath import cbrt, exp, log, mpf, pi, sqrt

THIRD = mpf(1) / 3


def _uniform(n):
    return -mpf(3) / 4 * cbrt(6 / pi) * n ** (4 * THIRD)


def _s2(n, sigma):
    return sigma / (4 * (6 * pi**2) ** (2 * THIRD) * n ** (8 * THIRD))


def _alpha(n, sigma, tau, eta=0):
    weizsaecker, uniform = sigma / (8 * n), mpf("0.3") * (6 * pi**2) ** (2 * THIRD) * n ** (5 * THIRD)
    return (tau - weizsaecker) / (uniform + mpf(eta) * weizsaecker)


def _spins(f):
    return lambda na, nb, aa, ab, bb, ta, tb: f(na, aa, ta) + f(nb, bb, tb)


def _pw(rs, z):
    def g(a, a1, b1, b2, b3, b4):
        a, a1, b1, b2, b3, b4 = map(mpf, (a, a1, b1, b2, b3, b4))
        q = 2 * a * (b1 * sqrt(rs) + b2 * rs + b3 * rs**1.5 + b4 * rs**2)
        return -2 * a * (1 + a1 * rs) * log(1 + 1 / q)

    e0 = g("0.0310907", "0.21370", "7.5957", "3.5876", "1.6382", "0.49294")
    e1 = g("0.01554535", "0.20548", "14.1189", "6.1977", "3.3662", "0.62517")
    ac = -g("0.0168869", "0.11125", "10.357", "3.6231", "0.88026", "0.49671")
    curvature = 8 / (9 * (2 ** (4 * THIRD) - 2))
    return e0 + ac * _f(z) / curvature * (1 - z**4) + (e1 - e0) * _f(z) * z**4


def _f(z):
    return ((1 + z) ** (4 * THIRD) + (1 - z) ** (4 * THIRD) - 2) / (2 ** (4 * THIRD) - 2)


def _phi(z):
    return ((1 + z) ** (2 * THIRD) + (1 - z) ** (2 * THIRD)) / 2


BETA = mpf("0.06672455060314922")
GAMMA = (1 - log(2)) / pi**2


def _common(na, nb, aa, ab, bb):
    n = na + nb
    z, rs = (na - nb) / n, cbrt(3 / (4 * pi * n))
    sigma = aa + 2 * ab + bb
    kf = cbrt(3 * pi**2 * n)
    return n, z, rs, sigma, sigma / (2 * _phi(z) * sqrt(4 * kf / pi) * n) ** 2


def _pbe(na, nb, aa, ab, bb):
    _n, z, rs, _, t2 = _common(na, nb, aa, ab, bb)
    g3 = GAMMA * _phi(z) ** 3
    A = BETA / GAMMA / (exp(-_pw(rs, z) / g3) - 1)
    y = A * t2
    return _pw(rs, z) + g3 * log(1 + BETA / GAMMA * t2 * (1 + y) / (1 + y + y * y))


def pbe_correlation(na, nb, aa, ab, bb, ta, tb):
    return (na + nb) * _pbe(na, nb, aa, ab, bb)


def tpss_correlation(na, nb, aa, ab, bb, ta, tb):
    n, z, _, sigma, _ = _common(na, nb, aa, ab, bb)
    eps = _pbe(na, nb, aa, ab, bb)
    ratio = sigma / (8 * n) / (ta + tb)
    grad_zeta2 = 4 * (nb**2 * aa - 2 * na * nb * ab + na**2 * bb) / n**4
    xi2 = grad_zeta2 / (4 * (3 * pi**2 * n) ** (2 * THIRD))
    c0 = mpf("0.53") + mpf("0.87") * z**2 + mpf("0.5") * z**4 + mpf("2.26") * z**6
    c = c0 / (1 + xi2 * ((1 + z) ** (-4 * THIRD) + (1 - z) ** (-4 * THIRD)) / 2) ** 4
    zero = mpf(0)
    alone = na / n * max(_pbe(na, zero, aa, zero, zero), eps) + nb / n * max(
        _pbe(nb, zero, bb, zero, zero), eps
    )
    pkzb = eps * (1 + c * ratio**2) - (1 + c) * ratio**2 * alone
    return n * pkzb * (1 + mpf("2.8") * pkzb * ratio**3)


def _h1(x):
    k1 = mpf("0.065")
    return 1 + k1 - k1 / (1 + x / k1)


def _gx(p):
    return 1 - exp(-mpf("4.9479") / sqrt(sqrt(p)))


def _switch(a, c1, c2, d):
    return exp(-mpf(c1) * a / (1 - a)) if a < 1 else -mpf(d) * exp(mpf(c2) / (1 - a))


def scan_exchange(n, sigma, tau):
    p, a, mu, k1 = _s2(n, sigma), _alpha(n, sigma, tau), mpf(10) / 81, mpf("0.065")
    b2 = sqrt(mpf(5913) / 405000)
    b1 = mpf(511) / 13500 / (2 * b2)
    b4 = mu**2 / k1 - mpf(1606) / 18225 - b1**2
    x = (
        mu * p * (1 + b4 * p / mu * exp(-b4 * p / mu))
        + (b1 * p + b2 * (1 - a) * exp(-((1 - a) ** 2) / 2)) ** 2
    )
    f = _switch(a, "0.667", "0.8", "1.24")
    return _uniform(n) * (_h1(x) + f * (mpf("1.174") - _h1(x))) * _gx(p)


FX = [
    mpf(c)
    for c in "1 -0.667 -0.4445555 -0.663086601049 1.451297044490 -0.887998041597 0.234528941479 "
    "-0.023185843322".split()
]
FC = [
    mpf(c)
    for c in "1 -0.64 -0.4352 -1.535685604549 3.061560252175 -1.915710236206 0.516884468372 "
    "-0.051848879792".split()
]


def _smooth_switch(a, f, c1, c2, d):
    return sum(c * a**i for i, c in enumerate(f)) if 0 <= a <= 2.5 else _switch(a, c1, c2, d)


def r2scan_exchange(n, sigma, tau):
    p, a = _s2(n, sigma), _alpha(n, sigma, tau, "0.001")
    c2 = sum(i * c for i, c in enumerate(FX)) * (mpf("1.174") - 1)
    ceta = mpf(20) / 27 + mpf("0.005") / 3
    h1 = _h1((ceta * c2 * exp(-(p**2) / mpf("0.361") ** 4) + mpf(10) / 81) * p)
    f = _smooth_switch(a, FX, "0.667", "0.8", "1.24")
    return _uniform(n) * (h1 + f * (mpf("1.174") - h1)) * _gx(p)


B1C, B2C, B3C = mpf("0.0285764"), mpf("0.0889"), mpf("0.125541")


def _lda0(rs):
    return -B1C / (1 + B2C * sqrt(rs) + B3C * rs)


def _gc(z):
    return (1 - mpf("2.363") * (cbrt(2) - 1) * _f(z)) * (1 - z**12)


def _eps0(rs, z, p):
    w0 = exp(-_lda0(rs) / B1C) - 1
    g = (1 + 4 * mpf("0.12802585262625815") * p) ** mpf("-0.25")
    return (_lda0(rs) + B1C * log(1 + w0 * (1 - g))) * _gc(z)


def _scan_like(na, nb, aa, ab, bb, ta, tb, regular):
    n, z, rs, sigma, t2 = _common(na, nb, aa, ab, bb)
    p = sigma / (4 * (3 * pi**2) ** (2 * THIRD) * n ** (8 * THIRD))
    ds = ((1 + z) ** (5 * THIRD) + (1 - z) ** (5 * THIRD)) / 2
    uniform = mpf("0.3") * (3 * pi**2) ** (2 * THIRD) * n ** (5 * THIRD) * ds
    eta = mpf("0.001") if regular else 0
    a = (ta + tb - sigma / (8 * n)) / (uniform + eta * sigma / (8 * n))
    g3 = GAMMA * _phi(z) ** 3
    w1 = exp(-_pw(rs, z) / g3) - 1
    y = BETA * (1 + rs / 10) / (1 + mpf("0.1778") * rs) * t2 / (GAMMA * w1)
    f = _switch(a, "0.64", "1.5", "0.7")
    if regular:
        df = sum(i * c for i, c in enumerate(FC))
        slope = mp.diff(lambda r: _lda0(r) * _gc(z) - _pw(r, z), rs)
        inner = 20 * rs * slope - 45 * eta * (_lda0(rs) * _gc(z) - _pw(rs, z))
        y -= df / (27 * g3 * ds * w1) * inner * p * exp(-(p**2) / mpf("0.361") ** 4)
        f = _smooth_switch(a, FC, "0.64", "1.5", "0.7")
    eps1 = _pw(rs, z) + g3 * log(1 + w1 * (1 - (1 + 4 * y) ** mpf("-0.25")))
    return n * (eps1 + f * (_eps0(rs, z, p) - eps1))


def scan_correlation(*x):
    return _scan_like(*x, False)


def r2scan_correlation(*x):
    return _scan_like(*x, True)


# the hole of omega-PBE, integrated numerically
HA, HB, HC, HD, HE = map(mpf, ("1.0161144", "-0.37170836", "-0.077215461", "0.57786348", "-0.051955731"))
ERFC = "-1.128223946706117 1.452736265762971 -1.243162299390327 0.971824836115601 -0.568861079687373 \
0.246880514820192 -0.065032363850763 0.008401793031216".split()


def wpbe_exchange(n, sigma, tau, omega="0.4"):
    omega = mpf(omega)
    w = omega / cbrt(6 * pi**2 * n)
    s = sqrt(_s2(n, sigma))
    if s >= 1:
        s = s - log(1 + exp(s - mpf("8.572844")))
    H = (mpf("0.00979681") * s**2 + mpf("0.0410834") * s**4) / (
        1 + mpf("0.187440") * s**4 + mpf("0.00120824") * s**5 + mpf("0.0347188") * s**6
    )
    F = mpf("6.4753871") * H + mpf("0.47965830")
    g = s * s * H
    d, z = HD + g, 9 * g / (4 * HA)
    if s > mpf("0.08"):
        a = sqrt(pi) * (15 * HE + 6 * HC * (1 + F * s**2) * d + 4 * HB * d**2 + 8 * HA * d**3) / (16 * d**3.5)
        a -= 3 * pi / 4 * sqrt(HA) * exp(z) * mp.erfc(sqrt(z))
        EG = -(3 * pi / 4 + a) / (15 * sqrt(pi) * s**2 / (16 * d**3.5))
    else:
        EG = mpf("-0.02628417880") + mpf("-0.07117647788") * s**2 + mpf("0.08534541323") * s**4
    inside = w < 14
    b = mpf("1.455915450052607") if inside else mpf(2)

    def singular(y):
        u = w * y
        erfc = exp(-b * u * u) * (1 + sum(mpf(c) * u ** (i + 1) for i, c in enumerate(ERFC) if inside))
        return HA / y * (exp(-HD * y * y) - 1 / (1 + 4 * HA * y * y / 9)) * exp(-g * y * y) * erfc

    def smooth(y):
        inner = HB + HC * (1 + s * s * F) * y * y + (HE + s * s * EG) * y**4
        return y * inner * exp(-d * y * y) * mp.erfc(w * y)

    edges = [mpf(0)] + [k / (w + mpf("0.5")) for k in (mpf("0.5"), 1, 2, 3, 5, 8, 12)]
    total = mp.quad(singular, edges) + mp.quad(smooth, edges)
    return _uniform(n) * mpf(-8) / 9 * total


def lc_wpbe(*x):
    return _spins(wpbe_exchange)(*x) + pbe_correlation(*x)


ENERGIES = {
    ",pbe": pbe_correlation,
    ",tpss": tpss_correlation,
    "scan,": _spins(scan_exchange),
    ",scan": scan_correlation,
    "r2scan,": _spins(r2scan_exchange),
    ",r2scan": r2scan_correlation,
    "lc_wpbe": lc_wpbe,
}


def values(name: str, rho, grad, tau) -> list:
    """Energy and derivatives with respect to rho (2), grad (2, 3) and tau (2) at one point."""
    energy = ENERGIES[name]
    sigma = [
        sum(mpf(a) * mpf(b) for a, b in zip(grad[i], grad[j], strict=False))
        for i, j in ((0, 0), (0, 1), (1, 1))
    ]
    x = [mpf(v) for v in (*rho, *sigma, *tau)]

    def slope(i):
        h = x[i] * mpf("1e-12") if x[i] else mpf("1e-20")
        f = [energy(*[v + k * h * (j == i) for j, v in enumerate(x)]) for k in (-1, 1)]
        return (f[1] - f[0]) / (2 * h)

    d = [slope(i) for i in range(7 if "scan" in name or "tpss" in name else 5)]
    up = [2 * d[2] * a + d[3] * b for a, b in zip(*grad, strict=False)]
    dn = [2 * d[4] * b + d[3] * a for a, b in zip(*grad, strict=False)]
    return [energy(*x), d[:2], [up, dn], *([d[5:]] if len(d) == 7 else [])]
