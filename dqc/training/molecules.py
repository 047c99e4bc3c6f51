"""Fields of all molecules of a data set, for all members of an ensemble, and what is seen of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.solution import Solution
from dqc.training import programs
from dqc.training.objective import Loss, Table
from dqc.training.programs import Observed
from dqc.training.systems import Prepared
from dqc.xc.functional import Functional

Fields = tuple[Solution, ...]  # of each chunk, with the axes of members and of molecules


@dataclass(frozen=True)
class Seen:
    """Energies and errors of some of the molecules, over all of them: (members, molecules)."""

    energies: Float[np.ndarray, "*b"]  # hartree; NaN where a molecule was not looked at
    usable: Float[np.ndarray, "*b"]  # whether it was, and its field and its response have converged
    failed: tuple[str, ...]  # the molecules of which, for some member, they have not
    terms: dict[str, Float[np.ndarray, " q"]]  # of each term the mean over molecules, for each member
    chunks: dict[int, Observed]
    places: tuple[np.ndarray, ...]  # for each chunk, where its molecules stand

    def gradient(self, slope: Float[np.ndarray, "*b"]) -> Functional:
        """sum_i slope_i dE_i/dtheta, and the derivative of the weighted errors, for each member."""
        parts = []
        for index, observed in self.chunks.items():
            lanes = observed.energy.shape[1]
            parts.append(contract(_on_lanes(slope, self.places[index], lanes), observed.slope))
            if observed.error_slope is not None:
                usable = _on_lanes(self.usable.astype(float), self.places[index], lanes)
                parts.append(contract(usable, observed.error_slope))
        return jax.tree.map(lambda *x: sum(x[1:], x[0]), *parts)

    def fisher(self, table: Table) -> Functional:
        """mean over usable reactions of (dE_r/dtheta)^2 for each leaf, (kcal/mol)^2."""
        usable = table.usable(self.usable)
        count = np.maximum(usable.sum(-1), 1)
        total: Any = None
        for row, c in enumerate(table.coefficients):
            slope = np.where(usable[:, row, None], HARTREE_IN_KCAL_PER_MOL * c, 0.0) / count[:, None] ** 0.5
            square = jax.tree.map(jnp.square, self.gradient(slope))
            total = square if total is None else jax.tree.map(jnp.add, total, square)
        fisher: Functional = total
        return fisher


def _on_lanes(values: np.ndarray, places: np.ndarray, lanes: int) -> np.ndarray:
    """Numbers of all molecules on the lanes of a chunk; zero for repeated ones."""
    return np.pad(values[:, places], ((0, 0), (0, lanes - len(places))))


@jax.jit
def contract(weights: Float[Array, "*b"], slopes: Any) -> Any:
    """sum over molecules of weight times slope, for each member: (m, l) and (m, l, ...) to (m, ...)."""

    def leaf(slope: Array) -> Array:
        w = weights.reshape(weights.shape + (1,) * (slope.ndim - 2))
        return jnp.where(w != 0, w * slope, 0.0).sum(1)  # zero times NaN would be NaN

    return jax.tree.map(leaf, slopes)


class Molecules:
    """The prepared molecules, and the programs on them."""

    def __init__(self, prepared: Prepared, members: int, scf_options: tuple[tuple[str, Any], ...]) -> None:
        self.prepared, self.members, self.scf_options = prepared, members, scf_options
        ends = np.cumsum([len(chunk.names) for chunk in prepared.chunks])
        self.places = tuple(
            np.arange(end - len(c.names), end) for c, end in zip(prepared.chunks, ends, strict=True)
        )

    def of(self, molecules: np.ndarray) -> list[int]:
        """The chunks that hold these molecules, given by their places."""
        return [k for k, places in enumerate(self.places) if np.isin(places, molecules).any()]

    def shapes(self, xcs: Functional, index: int) -> Solution:
        """The shapes of a chunk's fields."""
        system = self.prepared.chunks[index].system
        densities = jax.eval_shape(partial(programs.start, members=self.members), system)
        return jax.eval_shape(
            lambda x, s, P: programs.solve(x, s, P, None, self.scf_options), xcs, system, densities
        )

    def start(self, index: int) -> Float[Array, "*b s n n"]:
        """Densities that a chunk's fields start from when there are no others."""
        return programs.start(self.prepared.chunks[index].system, self.members, self.prepared.mesh)

    def solved(self, xcs: Functional, index: int, last: Solution | None) -> Solution:
        """The fields of one chunk, from their last densities; from the start where these led to none."""
        system, mesh = self.prepared.chunks[index].system, self.prepared.mesh
        densities = self.start(index) if last is None else last.density_matrix
        if last is not None and not np.asarray(last.converged).all():
            kept = last.converged[:, :, None, None, None]
            densities = jnp.where(kept, densities, self.start(index))
        return programs.solve(xcs, system, densities, mesh, self.scf_options)

    def seen(
        self, xcs: Functional, fields: Fields, chunks: Sequence[int], loss: Loss, responding: bool
    ) -> Seen:
        """The energies and errors of the molecules of some chunks, with their derivatives."""
        count = sum(map(len, self.places))
        energies, usable = np.full((self.members, count), np.nan), np.zeros((self.members, count), bool)
        weights, known = loss.weights(), self._known(chunks, loss, responding)
        terms: dict[str, Any] = {name: np.zeros(self.members) for name in known}
        observed: dict[int, Observed] = {}
        for index in chunks:
            chunk, places = self.prepared.chunks[index], self.places[index]
            functions = loss.terms(tuple(chunk.labels), responding)
            shares = {n: self._present(index, n) / max(known[n], 1.0) for n, _ in functions}
            one = programs.observe(
                xcs,
                chunk.system,
                fields[index],
                chunk.labels if responding else {},
                {name: weights[name] * share for name, share in shares.items()},
                functions,
                responding,
                self.prepared.mesh,
            )
            observed[index] = one
            energies[:, places] = np.asarray(one.energy)[:, : len(places)]
            usable[:, places] = np.asarray(one.usable)[:, : len(places)]
            for name, error in one.errors.items():
                held = np.where(np.asarray(one.usable), np.asarray(error), 0.0)
                terms[name] = terms[name] + held @ shares[name]
        looked = [k for index in chunks for k in self.places[index]]
        failed = tuple(self.prepared.names[k] for k in looked if not usable[:, k].all())
        return Seen(energies, usable, failed, terms, observed, self.places)

    def _present(self, index: int, term: str) -> np.ndarray:
        """1 for each molecule of a chunk that a term applies to, 0 for others and for repeated ones."""
        chunk = self.prepared.chunks[index]
        real = (np.arange(chunk.lanes) < len(chunk.names)).astype(float)
        return real * chunk.known.get(term, np.ones(chunk.lanes))

    def _known(self, chunks: Sequence[int], loss: Loss, responding: bool) -> dict[str, float]:
        """The number of molecules that each term applies to."""
        known: dict[str, float] = {}
        for index in chunks:
            for name, _ in loss.terms(tuple(self.prepared.chunks[index].labels), responding):
                known[name] = known.get(name, 0.0) + self._present(index, name).sum()
        return known
