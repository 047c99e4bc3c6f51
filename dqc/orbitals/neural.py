"""A network whose last hidden layer is made of functions around the nuclei, and whose last, linear layer are
orbitals.

    phi_i(r) = sum_(A,q) C_(Aq,i) chi_Aq(r)
    chi_Aq(r) = S_lm(r - R_A) exp(-zeta r_A) c_l(r_A) [1 + N_q(r; A)] prod_(B != A) c(r_B)

S_lm are solid harmonics and N_q the outputs of a perceptron, the same for all atoms of an element, that sees
the distances to its own nucleus and, summed over them, to all others: orbitals follow rotations, and
exchanging equal atoms exchanges their functions. What it sees is smooth at the nuclei, so that the factors c
make the cusp, exactly, d<phi>/dr_A = -Z_A phi(R_A) (Kato 1957, doi:10.1002/cpa.3160100201), and every
function decays as exp(-zeta r).
"""

from __future__ import annotations

from itertools import pairwise
from math import factorial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dqc.orbitals.harmonics import degrees, solid_harmonics
from dqc.types import pytree, static

Parameters = dict[str, Any]  # of the network, C apart
SMALLEST_DECAY = 0.15  # of an orbital, 1/bohr: a level of -0.01 hartree
RANGES = (0.25, 0.6, 1.2, 2.5)  # 1/bohr, at the start, of what the network sees of distances


class Neural(NamedTuple):
    """The shape of a network; hashable, so that it keys a compilation.

    ``shells`` is the number of radial functions on each atom for l = 0, 1, 2, ...; ``hidden`` the widths of
    the perceptron's layers; ``spread`` the standard deviation of its first outputs, about; ``precision``
    that in which the perceptron is evaluated, ``"float64"`` or ``"float32"``: all else is float64.
    """

    shells: tuple[int, ...] = (7, 5, 3, 1)
    hidden: tuple[int, ...] = (24, 24)
    spread: float = 0.02
    precision: str = "float64"

    @property
    def degrees(self) -> np.ndarray:
        """l of each shell."""
        return np.repeat(np.arange(len(self.shells)), self.shells)

    @property
    def functions(self) -> int:
        """Functions on each atom."""
        return int((2 * self.degrees + 1).sum())

    def init(self, key: Array, nuclei: Nuclei) -> Parameters:
        """Parameters to start from: even-tempered exponents, and a perceptron that says almost nothing."""
        numbers = np.asarray(nuclei.elements)
        ranges = np.log(RANGES)
        start: Parameters = {
            "zeta": jnp.asarray(np.log([self._exponents(z) - SMALLEST_DECAY for z in numbers])),
            "near": jnp.asarray(ranges),
            "far": jnp.asarray(ranges),
            "strength": jnp.ones((len(numbers), len(RANGES))),
            "layers": [],
        }
        widths = (2 * len(RANGES) + len(numbers), *self.hidden)
        for one, two in pairwise(widths):
            key, this = jax.random.split(key)
            kernel = jax.random.normal(this, (one, two), float) * np.sqrt(2.0 / one)
            start["layers"].append((kernel, jnp.zeros(two)))
        key, this = jax.random.split(key)
        last = jax.random.normal(this, (widths[-1], len(self.degrees)), float)
        start["layers"].append((last * self.spread / np.sqrt(widths[-1]), jnp.zeros(len(self.degrees))))
        return start

    def _exponents(self, z: float) -> np.ndarray:
        """Even-tempered decays of an element's shells, from the core's to the valence's, 1/bohr."""
        rows = []
        for l, count in enumerate(self.shells):
            low = 0.8 if z <= 2 else 0.75 + 0.1 * l + 0.05 * max(z - 4, 0)
            high = 1.4 * z if l == 0 else max(1.6 * low, (0.9 * z if l == 1 else 0.45 * z) + 0.5)
            high = max(high, 2.2 * low) if count > 2 else high
            rows.append(np.geomspace(high, low, count) if count > 1 else np.asarray([np.sqrt(high * low)]))
        return np.concatenate(rows)

    def functions_on(
        self, parameters: Parameters, nuclei: Nuclei, points: Float[Array, "c x"]
    ) -> Float[Array, "c n"]:
        """chi_Aq on points, atom by atom, bohr^(-3/2)."""
        r = points[:, None] - nuclei.coords  # c a x
        square = (r * r).sum(-1)
        distance = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
        l = self.degrees
        Z, e = nuclei.charges, nuclei.element
        local = distance * jnp.exp(-2.0 * Z * distance)  # r at the nucleus, nothing elsewhere
        cusp = 1.0 - Z * local
        others = jnp.prod(jnp.where(jnp.eye(len(Z), dtype=bool), 1.0, cusp[:, None, :]), axis=-1)
        zeta = (jnp.exp(parameters["zeta"]) + SMALLEST_DECAY)[e]  # a h
        norm = (2.0 * zeta) ** (l + 1.5) / np.sqrt([float(factorial(2 * k + 2)) for k in l])
        own = 1.0 + (zeta - Z[:, None] / (l + 1.0)) * local[:, :, None]
        radial = norm * jnp.exp(-zeta * distance[:, :, None]) * own * others[:, :, None]
        radial = radial * (1.0 + self._network(parameters, nuclei, square))
        shell = np.repeat(np.arange(len(l)), 2 * l + 1)
        harmonic = np.concatenate([np.flatnonzero(degrees(len(self.shells) - 1) == k) for k in l])
        chi = radial[:, :, shell] * solid_harmonics(len(self.shells) - 1, r)[:, :, harmonic]
        return chi.reshape(points.shape[0], -1)

    def _network(
        self, parameters: Parameters, nuclei: Nuclei, square: Float[Array, "c a"]
    ) -> Float[Array, "c a h"]:
        """N_q: of each atom, from the distances to it and to the others, made smooth within 1/Z."""
        smooth = jnp.sqrt(square + 1.0 / nuclei.charges**2)
        near = jnp.exp(-jnp.exp(parameters["near"]) * smooth[:, :, None])
        far = jnp.exp(-jnp.exp(parameters["far"]) * smooth[:, :, None])
        far = far * parameters["strength"][nuclei.element]
        y = jnp.concatenate([near, far.sum(1, keepdims=True) - far], axis=-1).astype(self.precision)
        (kernel, bias), *layers = jax.tree.map(lambda x: x.astype(self.precision), parameters["layers"])
        seen = 2 * len(RANGES)
        y = y @ kernel[:seen] + kernel[seen:][nuclei.element] + bias
        for kernel, bias in layers:
            y = jnp.tanh(y) @ kernel + bias
        return y.astype(square.dtype)

    def values(
        self, parameters: Parameters, nuclei: Nuclei, points: Float[Array, "c x"]
    ) -> Float[Array, "d c n"]:
        """The functions and their gradients, by forward differentiation."""
        along = jnp.broadcast_to(jnp.eye(3)[:, None], (3, *points.shape))
        chi, push = jax.linearize(lambda x: self.functions_on(parameters, nuclei, x), points)
        return jnp.concatenate([chi[None], jax.vmap(push)(along)])


@pytree
class Nuclei:
    """What the network knows of a molecule."""

    coords: Float[Array, "a x"]
    charges: Float[Array, " a"]
    element: Int[Array, " a"]  # the place of each atom's element in ``elements``
    elements: Float[Array, " z"]  # atomic numbers, each once


def nuclei_of(numbers: tuple[int, ...], coords: Float[Array, "a x"]) -> Nuclei:
    """The nuclei of a molecule."""
    elements, element = np.unique(np.asarray(numbers), return_inverse=True)
    return Nuclei(
        jnp.asarray(coords, float),
        jnp.asarray(numbers, float),
        jnp.asarray(element),
        jnp.asarray(elements, float),
    )


@pytree
class Orbitals:
    """phi_si = sum_q C_sqi chi_q, in bohr^(-3/2), orthonormal or not, and the electrons in them."""

    parameters: Parameters
    nuclei: Nuclei
    C: Float[Array, "s n i"]
    occupations: Float[Array, "s i"]
    network: Neural = static()

    @property
    def columns(self) -> Float[Array, "n k"]:
        """The coefficients of both spins side by side."""
        return self.C.transpose(1, 0, 2).reshape(self.C.shape[1], -1)

    def functions(self, points: Float[Array, "c x"]) -> Float[Array, "d c n"]:
        """chi_q and their gradients."""
        return self.network.values(self.parameters, self.nuclei, points)

    def values(self, points: Float[Array, "c x"]) -> Float[Array, "d c k"]:
        """The orbitals of all spins and their gradients."""
        return self.functions(points) @ self.columns
