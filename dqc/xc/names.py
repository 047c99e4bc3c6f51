"""Functionals by name, with the meaning that names have in PySCF."""

from __future__ import annotations

import re
from difflib import get_close_matches

from dqc.xc.functional import Functional
from dqc.xc.literature import KERNELS, Affine, Recipe, Term, literature


def _mix(constant: float, **slopes: float) -> Affine:
    return Affine(constant, tuple(slopes.items()))


def _exact(omega: float, **slopes: float) -> Term:
    return Term(omega, _mix(0.0, **slopes))


HARTREE_FOCK = Recipe((Term(0.0),))
B3LYP = Recipe(  # doi:10.1021/j100096a001, with VWN's fit to the random-phase approximation
    (
        _exact(0.0, a0=1.0),
        Term("lda_x", _mix(1.0, a0=-1.0, ax=-1.0)),
        Term("gga_x_b88", _mix(0.0, ax=1.0)),
        Term("lda_c_vwn_rpa", _mix(1.0, ac=-1.0)),
        Term("gga_c_lyp", _mix(0.0, ac=1.0)),
    ),
    (("a0", 0.20), ("ax", 0.72), ("ac", 0.81)),
)
B3LYP5 = B3LYP._replace(  # the same with VWN's formula 5
    terms=tuple(t._replace(kernel="lda_c_vwn") if t.kernel == "lda_c_vwn_rpa" else t for t in B3LYP.terms)
)
PBE0 = Recipe(  # doi:10.1063/1.478522
    (_exact(0.0, a0=1.0), Term("gga_x_pbe", _mix(1.0, a0=-1.0)), Term("gga_c_pbe")), (("a0", 0.25),)
)
CAM_B3LYP = Recipe(  # doi:10.1016/j.cplett.2004.06.011
    (
        _exact(0.0, alpha=1.0),
        _exact(0.33, beta=1.0),
        Term("gga_x_b88", _mix(1.0, alpha=-1.0, beta=-1.0)),
        Term("gga_x_ityh", _mix(0.0, beta=1.0), (("omega", 0.33),)),
        Term("lda_c_vwn", _mix(1.0, ac=-1.0)),
        Term("gga_c_lyp", _mix(0.0, ac=1.0)),
    ),
    (("alpha", 0.19), ("beta", 0.46), ("ac", 0.81)),
)
LC_WPBE = Recipe(  # doi:10.1063/1.2409292
    (Term(0.4), Term("gga_x_wpbeh", Affine(), (("omega", 0.4),)), Term("gga_c_pbe"))
)

COMPLETE: dict[str, Recipe] = {  # names of libxc functionals that hold both exchange and correlation
    "hyb_gga_xc_b3lyp": B3LYP,
    "hyb_gga_xc_pbeh": PBE0,
    "hyb_gga_xc_cam_b3lyp": CAM_B3LYP,
    "hyb_gga_xc_lc_wpbe": LC_WPBE,
}
ATTENUATED = ("gga_x_ityh", "gga_x_wpbeh")  # by themselves these names mean other omegas: left to libxc

SYNONYMS: dict[str, str] = {  # names with the same meaning on either side of a comma
    "lda": "lda_x",
    "slater": "lda_x",
    "b88": "gga_x_b88",
    "vwn5": "lda_c_vwn",
    "vwnrpa": "lda_c_vwn_rpa",
    "b3lyp": "hyb_gga_xc_b3lyp",
    "b3lypg": "hyb_gga_xc_b3lyp",
    "b3lyp5": "b3lyp5",
    "pbe0": "hyb_gga_xc_pbeh",
    "pbe1pbe": "hyb_gga_xc_pbeh",
    "pbeh": "hyb_gga_xc_pbeh",
    "camb3lyp": "hyb_gga_xc_cam_b3lyp",
    "cam-b3lyp": "hyb_gga_xc_cam_b3lyp",
    "lc-wpbe": "hyb_gga_xc_lc_wpbe",
}

PAIRS: dict[str, str] = {  # names of an exchange and a correlation functional together
    "blyp": "b88,lyp",
    "pbe": "pbe,pbe",
    "revpbe": "pbe_r,pbe",
    "rpbe": "rpbe,pbe",
    "tpss": "tpss,tpss",
    "scan": "scan,scan",
    "r2scan": "r2scan,r2scan",
    "bpbe": "b88,pbe",
    "hflyp": "hf,lyp",
    "hfpw92": "hf,pw_mod",
    "spw92": "slater,pw_mod",
    "svwn": "slater,vwn",
}
_TOKEN = re.compile(r"([+-]?)(?:(\d+\.?\d*|\.\d+)\*)?([a-z][a-z0-9_]*)(?:\*(\d+\.?\d*|\.\d+))?")


def functional(name: str, trainable: tuple[str, ...] = ()) -> Functional:
    """The functional of this name: ``pbe``, ``b88,lyp``, ``gga_x_pbe,gga_c_pbe``, ``0.3*hf + 0.7*pbe, pbe``.

    Names mean what they mean in PySCF: exchange before the comma, correlation after it, sums and
    multiples on either side. What is written in this package needs nothing else; every other libxc
    name is evaluated by libxc on the host, through PySCF. ``trainable`` names the literature constants
    that become leaves of the tree (by default there are none). Raises a ``ValueError`` for an unknown
    name, with the nearest known ones, and for a constant that the functional does not have.
    """
    if not isinstance(name, str) or not name.strip():
        raise ValueError(
            f"a functional's name is a non-empty string such as 'pbe' or 'b88,lyp', not {name!r}"
        )
    recipe = resolve(name)
    if recipe is not None:
        return literature(recipe, tuple(trainable))
    from dqc.xc import libxc

    if trainable:
        raise ValueError(f"{name!r} is evaluated by libxc, whose constants cannot be trained")
    try:
        return libxc.functional(name)
    except KeyError:
        near = get_close_matches(_normal(name), sorted({*known_names(), *libxc.names()}), n=3, cutoff=0.5)
        hint = f"; near it: {', '.join(near)}" if near else ""
        raise ValueError(f"unknown functional {name!r}{hint}") from None


def known_names() -> list[str]:
    """Every single name that resolves without PySCF."""
    return sorted({"hf", *PAIRS, *SYNONYMS, *KERNELS, *COMPLETE} - {*ATTENUATED})


def resolve(name: str) -> Recipe | None:
    """The recipe of a name or of a sum of names, or None where some part is not written here."""
    text = _normal(name)
    sides = text.split(",")
    if len(sides) == 1:
        return _sum(text, "xc")
    if len(sides) > 2:
        raise ValueError(f"{name!r} has more than one comma: exchange stands before it, correlation after it")
    parts = [_sum(side, kind) for side, kind in zip(sides, ("x", "c"), strict=False) if side]
    if not parts or any(part is None for part in parts):
        return None
    return _join([part for part in parts if part is not None])


def _normal(name: str) -> str:
    text = re.sub(r"\s", "", name).lower()
    return text.replace("cam-b3lyp", "cam_b3lyp").replace("lc-wpbe", "lc_wpbe")


def _sum(text: str, kind: str) -> Recipe | None:
    """One side of a description: ``0.25*hf+0.75*pbe``; ``kind`` is x, c, or xc where there is no comma."""
    parts, end = [], 0
    for match in _TOKEN.finditer(text):
        if match.start() != end or (end and not match[1]) or (match[2] and match[4]):
            return None
        end = match.end()
        factor = float(match[2] or match[4] or 1.0) * (-1.0 if match[1] == "-" else 1.0)
        part = _single(match[3], kind)
        if part is None:
            return None
        parts.append(part if factor == 1.0 else _scale(part, factor))
    return _join(parts) if parts and end == len(text) else None


def _single(key: str, kind: str) -> Recipe | None:
    """One name, looked up as PySCF does: pairs (no comma only), then full names, then with a prefix."""
    if key == "hf":
        return HARTREE_FOCK
    if kind == "xc" and key in PAIRS:
        return resolve(PAIRS[key])
    key = SYNONYMS.get(key, key)
    if key == "b3lyp5":
        return B3LYP5
    prefixes = [f"{family}_{kind}_" for family in ("lda", "gga", "mgga", "hyb_gga", "hyb_mgga")]
    for full in (key, *(prefix + key for prefix in prefixes)):
        for table in (COMPLETE, KERNELS):
            found = {_squeeze(k): k for k in table}.get(_squeeze(full))
            if (
                found is not None
                and found not in ATTENUATED
                and (full == key or found.startswith(tuple(prefixes)))
            ):
                return COMPLETE[found] if table is COMPLETE else Recipe((Term(found),))
    return None


def _squeeze(key: str) -> str:
    """libxc's name without the underscores after ``_x_``, ``_c_`` or ``_xc_``."""
    head, kind, tail = re.match(r"(.*?)(_xc_|_x_|_c_|$)(.*)", key).groups()
    return head + kind + tail.replace("_", "")


def _scale(recipe: Recipe, factor: float) -> Recipe:
    return recipe._replace(terms=tuple(t._replace(weight=t.weight.scaled(factor)) for t in recipe.terms))


def _join(recipes: list[Recipe]) -> Recipe:
    """The sum of recipes; the mixing parameters of a hybrid stay named only where it stands alone."""
    if len(recipes) == 1:
        return recipes[0]
    terms: dict[tuple, float] = {}
    for recipe in recipes:
        mixing = dict(recipe.mixing)
        for term in recipe.terms:
            key = (term.kernel, term.fixed)
            terms[key] = terms.get(key, 0.0) + term.weight(mixing)
    return Recipe(tuple(Term(kernel, Affine(a), fixed) for (kernel, fixed), a in terms.items()))
