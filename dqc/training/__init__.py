"""Training of functionals, on self-consistent fields or on fixed ones."""

from __future__ import annotations

from dqc.training.objective import Loss as Loss
from dqc.training.run import train as train
from dqc.training.stages import Stage as Stage
