"""Units at the door, and the table of elements. Inside the library everything is in atomic units.

The values are CODATA 2022 (E. Tiesinga, P. J. Mohr, D. B. Newell, B. N. Taylor, "The 2022 CODATA
recommended values of the fundamental physical constants", https://physics.nist.gov/constants).

PySCF converts angstrom with the bohr radius of CODATA 2010, 0.52917721092 angstrom: 7e-10 larger in
relative terms, so that one xyz file read by both programs gives geometries that differ by about 1e-8
bohr. Comparisons to 1e-8 hartree and beyond pass coordinates in bohr.
"""

from __future__ import annotations

import math

BOHR_IN_ANGSTROM = 0.529177210544  # bohr radius, uncertainty 8.2e-11
ANGSTROM = 1 / BOHR_IN_ANGSTROM  # one angstrom in bohr

HARTREE_IN_EV = 27.211386245981  # uncertainty 3.0e-11
HARTREE_IN_INVERSE_CM = 219474.63136314  # E_h / (h c), uncertainty 2.4e-7
HARTREE_IN_KCAL_PER_MOL = 4.3597447222060e-18 * 6.02214076e23 / 4184  # E_h N_A / cal, 627.5094740...
HARTREE_IN_KJ_PER_MOL = 4.3597447222060e-18 * 6.02214076e23 / 1000

# e a_0 = 8.4783536198e-30 C m (uncertainty 1.3e-39); a debye is 1e-21 C m^2/s divided by c.
DIPOLE_IN_DEBYE = 8.4783536198e-30 * 299792458 * 1e21  # one atomic unit of dipole moment, 2.5417464715

DALTON_IN_ELECTRON_MASSES = 1 / 5.485799090441e-4  # atomic mass unit / m_e, uncertainty of m_e 9.7e-15 u
SPEED_OF_LIGHT = 137.035999177  # in atomic units: the inverse fine-structure constant, uncertainty 2.1e-8

# An infrared intensity, pi N_A / (3 c^2) |d mu / dQ|^2, of |d mu / dQ|^2 in e^2/m_e; a_0 in kilometres.
INTENSITY_IN_KM_PER_MOL = (
    math.pi / (3 * SPEED_OF_LIGHT**2) * 6.02214076e23 * BOHR_IN_ANGSTROM * 1e-13
)  # 1.77710e6, which is 974.880 for e^2/dalton

SYMBOLS: tuple[str, ...] = tuple(
    """
    H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br
    Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er
    Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf Es Fm Md
    No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og
    """.split()
)
"""Chemical symbols by rising atomic number, hydrogen first."""

NUMBERS: dict[str, int] = {symbol: number for number, symbol in enumerate(SYMBOLS, start=1)}
"""Atomic number by chemical symbol."""

# fmt: off
_MASSES = (
    1.008, 4.002602, 6.94, 9.0121831, 10.81, 12.011, 14.007, 15.999, 18.998403163, 20.1797, 22.98976928,
    24.305, 26.9815385, 28.085, 30.973761998, 32.06, 35.45, 39.948, 39.0983, 40.078, 44.955908, 47.867,
    50.9415, 51.9961, 54.938044, 55.845, 58.933194, 58.6934, 63.546, 65.38, 69.723, 72.63, 74.921595,
    78.971, 79.904, 83.798, 85.4678, 87.62, 88.90584, 91.224, 92.90637, 95.95, 97.90721, 101.07, 102.9055,
    106.42, 107.8682, 112.414, 114.818, 118.71, 121.76, 127.6, 126.90447, 131.293, 132.90545196, 137.327,
    138.90547, 140.116, 140.90766, 144.242, 144.91276, 150.36, 151.964, 157.25, 158.92535, 162.5, 164.93033,
    167.259, 168.93422, 173.054, 174.9668, 178.49, 180.94788, 183.84, 186.207, 190.23, 192.217, 195.084,
    196.966569, 200.592, 204.38, 207.2, 208.9804, 208.98243, 209.98715, 222.01758, 223.01974, 226.02541,
    227.02775, 232.0377, 231.03588, 238.02891, 237.04817, 244.06421, 243.06138, 247.07035, 247.07031,
    251.07959, 252.083, 257.09511, 258.09843, 259.101, 262.11, 267.122, 268.126, 271.134, 270.133, 269.1338,
    278.156, 281.165, 281.166, 285.177, 286.182, 289.19, 289.194, 293.204, 293.208, 294.214,
)
# fmt: on

MASSES: dict[str, float] = dict(zip(SYMBOLS, _MASSES, strict=True))
"""Standard atomic weights in dalton: J. Meija et al., Pure Appl. Chem. 88, 265 (2016),
doi:10.1515/pac-2015-0305 (conventional value where an interval is given; the longest-lived isotope's
mass where no standard weight exists)."""

ATOMIC_SPINS: dict[str, int] = {
    symbol: int(digit)
    for symbol, digit in zip(SYMBOLS, "101012321010123210101236543210123210101256543010123210", strict=False)
}
"""Unpaired electrons (2S) of the neutral atom's ground state, hydrogen to xenon: A. Kramida et al., NIST
Atomic Spectra Database, doi:10.18434/T4W30F."""
