"""The stages of a training: on which fields, how long, and by which optimiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import optax

from dqc.names import nearest
from dqc.training.gauss_newton import gauss_newton
from dqc.training.objective import Loss

Kind = Literal["post-scf", "alternating", "in-scf"]
SCHEDULES = ("constant", "cosine", "exponential")
OPTIMIZERS = ("adam", "adamw", "adabelief", "lion", "sgd", "gauss-newton")
LAST = 0.01  # of the learning rate, at the end of an exponential or a cosine schedule


@dataclass(frozen=True)
class Stage:
    """A number of epochs of one kind.

    ``"in-scf"`` solves every field anew in each step, from its last density, and differentiates the
    converged fields. ``"post-scf"`` keeps the fields of the functional that the stage begins with, or those
    of another, ``fields`` (a name such as ``"b3lyp"`` or ``"hf"``, or a file), and ``"alternating"`` solves
    them again every ``refresh`` epochs: a step then costs one energy at fixed orbitals, whose first
    derivative is the same where the orbitals are self-consistent.

    ``batch`` is the number of reactions to a step (all by default). ``optimizer`` is ``"gauss-newton"``
    (:mod:`dqc.training.gauss_newton`: all reactions in a step, far fewer steps) or a name of :mod:`optax`,
    with ``learning_rate``, ``schedule`` and ``clip`` (of the norm of the gradient), or a transformation of
    optax's in their place. ``validate`` is the number of epochs between validations, and ``loss``, where it
    is given, takes the place of the training's in this stage.
    """

    kind: Kind = "in-scf"
    epochs: int = 20
    learning_rate: float = 1e-3
    optimizer: str | optax.GradientTransformation = "adam"
    schedule: str = "cosine"
    clip: float | None = None
    batch: int | None = None
    refresh: int = 5
    validate: int = 1
    loss: Loss | None = None
    fields: str | None = None

    def __post_init__(self) -> None:
        for name, choices in (
            ("kind", get_args(Kind)),
            ("schedule", SCHEDULES),
            ("optimizer", OPTIMIZERS),
        ):
            value = getattr(self, name)
            if isinstance(value, str) and value not in choices:
                hint = nearest(value, choices)
                raise ValueError(f"a stage's {name} is {value!r}{hint}; it is one of {', '.join(choices)}")
        for name in ("epochs", "refresh", "validate", *(() if self.batch is None else ("batch",))):
            if not (isinstance(getattr(self, name), int) and getattr(self, name) > 0):
                raise ValueError(f"a stage's {name} is {getattr(self, name)!r}: a positive whole number")
        if self.optimizer == "gauss-newton" and self.batch is not None:
            raise ValueError("a stage's optimizer 'gauss-newton' goes with all reactions in a step: no batch")
        if self.fields is not None and self.kind != "post-scf":
            raise ValueError(f"a stage's fields are {self.fields!r}, which goes with its kind 'post-scf'")
        if not self.learning_rate > 0:
            raise ValueError(f"a stage's learning_rate is {self.learning_rate!r}: a positive number")

    def transformation(self, steps: int, reactions: int) -> optax.GradientTransformationExtraArgs:
        """The optimiser, for this number of steps and of reactions."""
        if not isinstance(self.optimizer, str):
            return optax.with_extra_args_support(self.optimizer)
        if self.optimizer == "gauss-newton":
            return gauss_newton(reactions)
        rate = self.learning_rate
        schedule = {
            "constant": lambda: optax.constant_schedule(rate),
            "cosine": lambda: optax.cosine_decay_schedule(rate, steps, LAST),
            "exponential": lambda: optax.exponential_decay(rate, steps, LAST),
        }[self.schedule]()
        step = getattr(optax, self.optimizer)(schedule)
        chain = step if self.clip is None else optax.chain(optax.clip_by_global_norm(self.clip), step)
        return optax.with_extra_args_support(chain)

    def solves(self, epoch: int) -> bool:
        """Whether the fields are solved before this epoch, to be kept during it."""
        return (
            epoch == 0
            if self.kind == "post-scf"
            else self.kind == "alternating" and epoch % self.refresh == 0
        )
