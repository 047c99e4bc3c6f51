"""A molecule in a static uniform electric field."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.properties.dipole import dipole
from dqc.scf import scf
from dqc.system import System
from dqc.types import replace
from dqc.xc.functional import Functional


def in_field(system: System, field: Float[Array, " x"]) -> System:
    """The same molecule in an electric field (atomic units, 5.142e11 V/m), whose energy is E - mu . field.

    The electrons gain field . r, the nuclei lose Z field . R, about the origin of the coordinates. Move
    nuclei (:func:`dqc.at`) before the field is put on, not after.
    """
    field = jnp.asarray(field, float)
    return replace(
        system,
        nuclear=system.nuclear + jnp.einsum("x,xpq->pq", field, system.dipole),
        nuclear_repulsion=system.nuclear_repulsion - field @ (system.charges @ system.coords),
    )


def polarizability(system: System, xc: Functional, **options: Any) -> Float[Array, "x x"]:
    """alpha_xy = d mu_x / d field_y of the self-consistent field, in bohr^3; differentiable by ``xc``.

    ``options`` are those of :func:`dqc.scf`; the tolerance is 1e-6 if none is given. NaN where the field
    or its response has not converged. Gerratt, Mills (1968), doi:10.1063/1.1670299.
    """
    options = {"tolerance": 1e-6} | options

    def moment(field: Float[Array, " x"]) -> Float[Array, " x"]:
        return dipole(system, scf(in_field(system, field), xc, **options))

    return jax.jacfwd(moment)(jnp.zeros(3))
