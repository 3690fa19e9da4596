"""Training: objectives, the loop, and runs that can be killed and resumed."""

from bruno.training.config import Experiment, ModelConfig, TrainingConfig
from bruno.training.guard import NonFiniteError
from bruno.training.loop import train
from bruno.training.objectives import Objective, ObjectiveConfig
from bruno.training.stopping import Interrupted

__all__ = [
    "Experiment",
    "Interrupted",
    "ModelConfig",
    "NonFiniteError",
    "Objective",
    "ObjectiveConfig",
    "TrainingConfig",
    "train",
]
