"""Fine-tuning without forgetting: parameters that mattered for earlier data are held near their old values.

Elastic weight consolidation: Kirkpatrick et al. (2017), doi:10.1073/pnas.1611835114, eq. 3.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dqc.training.objective import Penalty
from dqc.xc.files import functional
from dqc.xc.functional import Functional

FUNCTIONAL, FISHER = "functional.safetensors", "fisher.safetensors"


def elastic(old: Functional, fisher: Functional) -> Penalty:
    """1/2 sum_k F_k (theta_k - theta_old,k)^2, with F the mean square slopes of :attr:`Trained.fisher`.

    The increase of half the mean square error of the earlier reactions, (kcal/mol)^2, to second order and
    with the parameters taken one at a time.
    """

    def penalty(xc: Functional) -> Float[Array, ""]:
        terms = jax.tree.map(lambda F, a, b: 0.5 * jnp.sum(F * (a - b) ** 2), fisher, xc, old)
        return sum(jax.tree.leaves(terms), jnp.zeros(()))

    return penalty


def anchor(directory: str | Path) -> Penalty:
    """:func:`elastic`, with the functional and the Fisher information that a training left in a directory."""
    folder = Path(directory)
    return elastic(functional(folder / FUNCTIONAL), functional(folder / FISHER))
