"""``train``: a functional, a data set and a list of stages to a trained functional.

Every step is the same, whatever the stage: fields (solved or kept), their energies and errors with
derivatives (:mod:`dqc.training.molecules`), the loss of these (:mod:`dqc.training.objective`), and a step of
the optimiser. All that a step depends on is in the checkpoint, so that a training that was stopped ends with
the same bits.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dqc.constants import HARTREE_IN_KCAL_PER_MOL
from dqc.data.checks import shared
from dqc.data.sets import Reactions
from dqc.training.gauss_newton import settled
from dqc.training.log import Log, Position, settings_of, summary, text
from dqc.training.molecules import Fields, Molecules, Seen
from dqc.training.objective import Loss, Table, mean_absolute
from dqc.training.result import Errors, Trained, stacked, unstacked
from dqc.training.stages import Stage
from dqc.training.steps import penalties_of, update_of
from dqc.training.systems import prepare
from dqc.types import pytree, replace
from dqc.xc.algebra import Sum
from dqc.xc.files import functional
from dqc.xc.functional import Functional

STAGES = (Stage("post-scf", 50), Stage("in-scf", 10))


@pytree
class State:
    """The arrays of a training; their leading axis is that of the members of an ensemble."""

    xcs: Functional
    optimizer: Any
    fields: Fields  # solved last
    best: Functional  # of this stage
    best_error: Float[Array, " q"]  # of validation, kcal/mol


def train(
    xc: Functional | Sequence[Functional],
    data: Reactions,
    stages: Sequence[Stage] = STAGES,
    loss: Loss | None = None,
    *,
    validation: Reactions | None = None,
    test: Reactions | None = None,
    directory: str | Path | None = None,
    restart: bool = False,
    seed: int = 0,
    scf: Mapping[str, Any] | None = None,
    progress: bool = True,
    **build: Any,
) -> Trained:
    """Train a functional, or an ensemble of functionals of one structure, on reactions and labels.

    ``build`` are options of :func:`dqc.training.systems.prepare` (``basis``, ``grid``, ``growth``, ...) and
    ``scf`` of :func:`dqc.scf`. Where there is a ``validation``, each stage ends with the parameters that had
    the smallest mean absolute error there; else with the last, or, of Gauss-Newton steps, with those of the
    lowest loss that was seen.

    In ``directory`` go checkpoints, the history as JSON lines and at the end the functionals; where it holds
    a checkpoint of the same training, that goes on, and ``restart=True`` begins anew. A molecule whose field
    does not converge is left out of the step, counted and named in the history. Raises ``ValueError`` for a
    molecule of ``data`` that is in ``validation`` or ``test``, for labels that the loss wants and nobody has,
    and for a checkpoint of another training.
    """
    members = list(xc) if isinstance(xc, Sequence) else [xc]
    xcs = stacked(members)
    named = {"train": data, "validation": validation, "test": test}
    parts = {name: part for name, part in named.items() if part is not None}
    losses = [stage.loss or loss or Loss() for stage in stages]
    _check(xcs, parts, losses)
    others = [functional(stage.fields) for stage in stages if stage.fields is not None]
    options = tuple(sorted((scf or {}).items()))
    log = Log(
        None if directory is None else Path(directory),
        settings_of(members, parts, stages, losses, build, options, seed),
        progress,
    )
    wanted = tuple(dict.fromkeys(name for one in losses for name in one.labelled()))
    prepared = prepare(
        {name: molecule for part in parts.values() for name, molecule in part.molecules.items()},
        Sum((members[0], *others)),  # what all of them need
        labels={name: known for part in parts.values() for name, known in part.labels.items()},
        wanted=wanted,
        progress=log.over("integrals"),
        **build,
    )
    molecules = Molecules(prepared, len(members), options)
    tables = {name: Table.of(part.reactions, prepared.names) for name, part in parts.items()}
    trained = Training(xcs, molecules, tables, stages, losses, log, seed).run(restart)
    if directory is not None and jax.process_index() == 0:
        systems = {name: value for name, value in build.items() if name != "devices"}
        trained.save(
            directory, {"trained on": data.name, "systems": systems, "stages": [text(s) for s in stages]}
        )
    return trained


def _check(xcs: Functional, parts: Mapping[str, Reactions], losses: Sequence[Loss]) -> None:
    if not jax.tree.leaves(xcs):
        raise ValueError("the functional has no parameters to train: take dqc.neural(...), for example")
    if not losses:
        raise ValueError("there are no stages to train in: give at least one dqc.training.Stage")
    if not parts["train"].reactions:
        raise ValueError("the data to train on has no reactions")
    for other in set(parts) - {"train"}:
        both = shared(parts["train"], parts[other])
        if both:
            raise ValueError(
                f"{', '.join(both)} would be in the training and in the {other} data: see dqc.data.split"
            )
    named = {name for reaction in parts["train"].reactions for name in reaction.molecules}
    known = {x for name, labels in parts["train"].labels.items() if name in named for x in labels.known}
    for label in dict.fromkeys(name for loss in losses for name in loss.labelled()):
        if label not in known:
            raise ValueError(
                f"the loss asks for the label {label}, and no molecule of a reaction to train on has it"
            )


class Training:
    """The loop of :func:`train`."""

    def __init__(
        self,
        xcs: Functional,
        molecules: Molecules,
        tables: Mapping[str, Table],
        stages: Sequence[Stage],
        losses: Sequence[Loss],
        log: Log,
        seed: int,
    ) -> None:
        self.xcs, self.molecules, self.tables, self.stages = xcs, molecules, tables, stages
        self.losses, self.log, self.seed = losses, log, seed
        self.given = [
            None if stage.fields is None else stacked([functional(stage.fields)] * molecules.members)
            for stage in stages
        ]
        self.everything = range(len(molecules.places))
        count = len(tables["train"].names)
        self.optimizers = [s.transformation(s.epochs * self.steps(s), count) for s in stages]
        self.updates = [update_of(optimizer) for optimizer in self.optimizers]
        self.penalties = [penalties_of(loss) for loss in losses]

    def run(self, restart: bool) -> Trained:
        """All stages, from the start or from where the checkpoint stands."""
        if restart:
            self.log.restart()
        at = self.log.position()
        if at is None:
            state = self.begun()
            _, before = self.errors(state.xcs, state.fields)
            at = Position(before={name: errors.tolist() for name, errors in before.items()})
        else:
            state = self.log.state(self.template(at.stage))
        lengths = [stage.epochs * self.steps(stage) for stage in self.stages]
        done = sum(lengths[: at.stage]) + at.step
        done += at.epoch * self.steps(self.stages[at.stage]) if at.epoch else 0
        with self.log.bar(sum(lengths), done):
            while at.stage < len(self.stages):
                state = self.stage(state, at)
        return self.finished(state, at)

    def begun(self) -> State:
        """The state before the first step, with fields of the functional that the training starts with."""
        chunks = self.log.over("first fields")(self.everything)
        return self.entered(0, self.xcs, tuple(self.molecules.solved(self.xcs, k, None) for k in chunks))

    def entered(self, number: int, xcs: Functional, fields: Fields) -> State:
        """The state at the start of a stage, with an optimiser of its own."""
        number = min(number, len(self.stages) - 1)  # the last stage's is kept after it
        optimizer = jax.vmap(self.optimizers[number].init)(xcs)
        return State(xcs, optimizer, fields, xcs, jnp.full(self.molecules.members, jnp.inf))

    def template(self, number: int) -> State:
        """The shapes of a state in a stage."""
        fields = tuple(self.molecules.shapes(self.xcs, k) for k in self.everything)
        shapes: State = jax.eval_shape(partial(self.entered, number), self.xcs, fields)
        return shapes

    def stage(self, state: State, at: Position) -> State:
        """One stage, from where it stands, and the start of the next."""
        stage = self.stages[at.stage]
        while at.epoch < stage.epochs:
            began = time.monotonic()
            if stage.solves(at.epoch) and at.step == 0:
                xcs = self.given[at.stage] or state.xcs
                state = replace(state, fields=self.solved(xcs, state.fields, self.everything))
            if at.epoch == 0 and at.step == 0:  # what a stage begins with may be its best
                state, _ = self.validated(state, at)
            batches = self.batches(at)
            while at.step < len(batches):
                state, record = self.step(state, at, batches[at.step])
                at.partial.append(record)
                at.step += 1
                self.log.advance(stage.kind, at.partial)
                self.log.checkpoint(state, at)
            state, held_out = self.validated(state, at)
            record = {"stage": at.stage, "kind": stage.kind, "epoch": at.epoch, **summary(at.partial)}
            record |= held_out | {"seconds": round(time.monotonic() - began, 3)}
            at.lines = self.log.record(record)
            at.epoch, at.step, at.partial = at.epoch + 1, 0, []
            self.log.checkpoint(state, at)
        xcs = state.best if "validation" in self.tables else settled(state.xcs, state.optimizer)
        at.stage, at.epoch = at.stage + 1, 0
        state = self.entered(at.stage, xcs, state.fields)
        self.log.checkpoint(state, at, now=True)
        return state

    def step(self, state: State, at: Position, batch: np.ndarray) -> tuple[State, dict[str, Any]]:
        """One step of the optimiser, on a batch of reactions."""
        loss, table = self.losses[at.stage], self.tables["train"].only(batch)
        responding = self.stages[at.stage].kind == "in-scf"
        if responding:
            chunks = self.molecules.of(table.molecules)
            state = replace(state, fields=self.solved(state.xcs, state.fields, chunks))
        seen = self.molecules.seen(state.xcs, state.fields, table.molecules, loss, responding)
        energy, slope = table.loss(seen.energies, seen.usable)
        penalties, gradient = self.penalties[at.stage](state.xcs)
        gradient = jax.tree.map(jnp.add, gradient, seen.gradient(loss.energy * slope))
        terms = {"energy": energy, **seen.terms, **{n: np.asarray(v) for n, v in penalties.items()}}
        weights = loss.weights()
        total = sum((weights[n] * v for n, v in terms.items() if weights[n]), np.zeros(len(energy)))
        # Where nothing has converged of a part of the loss that is NaN, and there is no step without it.
        rows = None
        if self.stages[at.stage].optimizer == "gauss-newton":
            rows = jax.tree.map(lambda x: x * (2.0 * loss.energy) ** 0.5, seen.rows(table))
        used = jnp.asarray(table.usable(seen.usable).sum(-1))
        xcs, optimizer, moved = self.updates[at.stage](
            state.xcs, state.optimizer, gradient, jnp.asarray(total), rows, used
        )
        record = {
            "loss": total.tolist(),
            "terms": {n: v.tolist() for n, v in terms.items()},
            "error": mean_absolute(table.errors(seen.energies, seen.usable)).tolist(),
            "reactions": len(batch),
            "failed": list(seen.failed),
            "skipped": int((~np.asarray(moved)).sum()),
        }
        return replace(state, xcs=xcs, optimizer=optimizer), record

    def validated(self, state: State, at: Position) -> tuple[State, dict[str, Any]]:
        """The errors of validation, and the best parameters so far."""
        stage = self.stages[at.stage]
        due = (at.epoch + 1) % stage.validate == 0 or at.epoch + 1 == stage.epochs or at.step == 0
        if "validation" not in self.tables or not due:
            return state, {}
        table, fields = self.tables["validation"], state.fields
        if stage.kind == "in-scf":
            fields = self.solved(state.xcs, fields, self.molecules.of(table.molecules))
        seen = self.molecules.seen(state.xcs, fields, table.molecules, Loss(), False)
        error = mean_absolute(table.errors(seen.energies, seen.usable))
        state = self.improved(replace(state, fields=fields), error)
        return state, {"validation": {"error": error.tolist(), "failed": list(seen.failed)}}

    def improved(self, state: State, error: np.ndarray) -> State:
        """The best parameters so far, of each member, with an error of the present ones."""
        better = jnp.asarray(error < np.asarray(state.best_error))
        best = jax.tree.map(lambda a, b: jnp.where(_wide(better, a), a, b), state.xcs, state.best)
        return replace(state, best=best, best_error=jnp.where(better, error, state.best_error))

    def solved(self, xcs: Functional, fields: Fields, chunks: Iterable[int]) -> Fields:
        """The fields of all chunks, of which these are solved anew."""
        chosen = set(chunks)
        return tuple(self.molecules.solved(xcs, k, f) if k in chosen else f for k, f in enumerate(fields))

    def errors(self, xcs: Functional, fields: Fields) -> tuple[Seen, dict[str, np.ndarray]]:
        """What is seen of all molecules, and the errors of all reactions, kcal/mol."""
        seen = self.molecules.seen(xcs, fields, np.arange(len(self.molecules.prepared.names)), Loss(), False)
        return seen, {name: t.errors(seen.energies, seen.usable) for name, t in self.tables.items()}

    def batches(self, at: Position) -> list[np.ndarray]:
        """The reactions of each step, in an order that depends on the seed, the stage and the epoch alone."""
        count, stage = len(self.tables["train"].names), self.stages[at.stage]
        size = stage.batch or count
        order = np.arange(count)
        if size < count:
            order = np.random.default_rng((self.seed, at.stage, at.epoch)).permutation(count)
        return [np.sort(order[start : start + size]) for start in range(0, count, size)]

    def steps(self, stage: Stage) -> int:
        """The number of steps in an epoch."""
        count = len(self.tables["train"].names)
        return -(-count // (stage.batch or count))

    def finished(self, state: State, at: Position) -> Trained:
        """The results, from self-consistent fields of the trained functionals."""
        fields = self.solved(state.xcs, state.fields, self.everything)
        seen, after = self.errors(state.xcs, fields)
        errors = {
            name: Errors(t.names, t.values * HARTREE_IN_KCAL_PER_MOL, np.array(at.before[name]), after[name])
            for name, t in self.tables.items()
        }
        fisher = jax.tree.map(lambda rows: (rows**2).sum(0), unstacked(seen.rows(self.tables["train"]))[0])
        return Trained(unstacked(state.xcs), errors, self.log.history, fisher)


def _wide(mask: Array, like: Array) -> Array:
    return mask.reshape(mask.shape + (1,) * (like.ndim - 1))
