"""Training of functionals, on self-consistent fields or on fixed ones."""

from __future__ import annotations

from dqc.training.anchor import anchor as anchor
from dqc.training.anchor import elastic as elastic
from dqc.training.evaluate import Evaluation as Evaluation
from dqc.training.evaluate import evaluate as evaluate
from dqc.training.objective import Loss as Loss
from dqc.training.result import Errors as Errors
from dqc.training.result import Trained as Trained
from dqc.training.run import train as train
from dqc.training.stages import Stage as Stage
