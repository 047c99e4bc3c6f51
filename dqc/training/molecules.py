"""Fields of all molecules of a data set, for all members of an ensemble, and what is seen of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

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
    usable: Bool[np.ndarray, "*b"]  # whether it was, and its field and its response have converged
    failed: tuple[str, ...]  # the molecules of which, for some member, they have not
    terms: dict[str, Float[np.ndarray, " q"]]  # of each the mean over usable molecules, for each member
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

    def rows(self, table: Table) -> Functional:
        """dE_r/dtheta / sqrt(usable reactions), kcal/mol; zero for others: (members, reactions, ...).

        The sum of their squares is the mean over reactions of (dE_r/dtheta)^2, the Fisher information.
        """
        usable = table.usable(self.usable)
        scale = HARTREE_IN_KCAL_PER_MOL / np.maximum(usable.sum(-1), 1) ** 0.5
        weights = scale[:, None, None] * usable[:, :, None] * table.coefficients
        parts = []
        for index, observed in self.chunks.items():
            places, lanes = self.places[index], observed.energy.shape[1]
            on_lanes = np.pad(weights[:, :, places], ((0, 0), (0, 0), (0, lanes - len(places))))
            parts.append(spread(on_lanes, observed.usable, observed.slope))
        return jax.tree.map(lambda *x: sum(x[1:], x[0]), *parts)


def _on_lanes(values: np.ndarray, places: np.ndarray, lanes: int) -> np.ndarray:
    """Numbers of all molecules on the lanes of a chunk; zero for repeated ones."""
    return np.pad(values[:, places], ((0, 0), (0, lanes - len(places))))


@jax.jit
def contract(weights: Float[Array, "*b"], slopes: Any) -> Any:
    """sum over molecules of weight times slope, for each member: (j, o) and (j, o, ...) to (j, ...)."""

    def leaf(slope: Array) -> Array:
        w = weights.reshape(weights.shape + (1,) * (slope.ndim - 2))
        return jnp.where(w != 0, w * slope, 0.0).sum(1)  # zero times NaN would be NaN

    return jax.tree.map(leaf, slopes)


@jax.jit
def spread(weights: Float[Array, "j q o"], usable: Bool[Array, "j o"], slopes: Any) -> Any:
    """sum over molecules, for each member and row: (j, q, o) and (j, o, ...) to (j, q, ...)."""

    def leaf(slope: Array) -> Array:
        held = jnp.where(usable.reshape(usable.shape + (1,) * (slope.ndim - 2)), slope, 0.0)
        return jnp.einsum("jqo,jo...->jq...", weights, held)

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
        self, xcs: Functional, fields: Fields, molecules: np.ndarray, loss: Loss, responding: bool
    ) -> Seen:
        """The energies and errors of some molecules, given by their places, with their derivatives.

        The mean of an error is over the molecules that can be used. That a response has not converged is seen
        only afterwards: then all is done again without that molecule.
        """
        asked = np.zeros((self.members, sum(map(len, self.places))), bool)
        asked[:, molecules] = True
        converged = [
            np.asarray(field.converged)[:, : len(places)]
            for field, places in zip(fields, self.places, strict=True)
        ]
        usable = asked & np.concatenate(converged, axis=1)
        while True:
            seen = self._seen(xcs, fields, asked, usable, loss, responding)
            if (seen.usable == usable).all():
                return seen
            usable = seen.usable

    def _seen(
        self,
        xcs: Functional,
        fields: Fields,
        asked: np.ndarray,
        usable: np.ndarray,
        loss: Loss,
        responding: bool,
    ) -> Seen:
        """The same, of molecules that are expected to be usable."""
        chunks = self.of(np.flatnonzero(asked[0]))
        energies, found = np.full(asked.shape, np.nan), np.zeros(asked.shape, bool)
        weights, (shares, labelled) = loss.weights(), self._shares(chunks, asked, usable, loss, responding)
        terms = {name: np.where(_total(shares[name]) > 0, 0.0, np.nan) for name in labelled}
        observed: dict[int, Observed] = {}
        for index in chunks:
            chunk, places = self.prepared.chunks[index], self.places[index]
            # Also those that nobody here has a label for, with weights of zero: one program for all batches.
            functions = loss.terms(tuple(chunk.labels), responding)
            follow = responding and bool(functions)  # energies alone are one program, of whichever fields
            one = programs.observe(
                xcs,
                chunk.system,
                fields[index],
                chunk.labels if follow else {},
                {name: weights[name] * shares[name][index] for name, _ in functions},
                functions,
                follow,
                self.prepared.mesh,
            )
            observed[index] = one
            energies[:, places] = np.asarray(one.energy)[:, : len(places)]
            found[:, places] = np.asarray(one.usable)[:, : len(places)]
            for name in labelled.keys() & one.errors.keys():
                share = shares[name][index]
                terms[name] += np.where(share > 0, share * np.asarray(one.errors[name]), 0.0).sum(1)
        energies, usable = np.where(asked, energies, np.nan), usable & found
        failed = tuple(self.prepared.names[k] for k in np.flatnonzero((asked & ~usable).any(0)))
        return Seen(energies, usable, failed, terms, observed, self.places)

    def _shares(
        self, chunks: Sequence[int], asked: np.ndarray, usable: np.ndarray, loss: Loss, responding: bool
    ) -> tuple[dict[str, dict[int, np.ndarray]], dict[str, None]]:
        """For each term, the share of each lane of each chunk in the mean over usable molecules.

        And the terms that there is a label for.
        """
        shares: dict[str, dict[int, np.ndarray]] = {}
        labelled: dict[str, None] = {}
        for index in chunks:
            chunk, places = self.prepared.chunks[index], self.places[index]
            for name, _ in loss.terms(tuple(chunk.labels), responding):
                has = chunk.known.get(name, np.ones(chunk.lanes))
                if has[: len(places)] @ asked[0, places]:
                    labelled[name] = None
                rows = has * _on_lanes(usable.astype(float), places, chunk.lanes)
                shares.setdefault(name, {})[index] = rows
        for rows_of in shares.values():
            count = np.maximum(_total(rows_of), 1.0)[:, None]
            rows_of.update({index: rows / count for index, rows in rows_of.items()})
        return shares, labelled


def _total(rows: Mapping[int, np.ndarray]) -> np.ndarray:
    """The sum over all chunks and lanes, for each member."""
    return sum((x.sum(1) for x in rows.values()), np.zeros(()))
