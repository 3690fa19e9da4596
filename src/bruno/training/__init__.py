"""Training: objectives, the loop, and runs that can be killed and resumed."""

from typing import TYPE_CHECKING

from bruno.lazy import lazy_exports

if TYPE_CHECKING:
    from bruno.training.config import Experiment as Experiment
    from bruno.training.config import ModelConfig as ModelConfig
    from bruno.training.config import TrainingConfig as TrainingConfig
    from bruno.training.loop import train as train
    from bruno.training.nonfinite import NonFiniteError as NonFiniteError
    from bruno.training.objectives import Objective as Objective
    from bruno.training.objectives import ObjectiveConfig as ObjectiveConfig
    from bruno.training.stopping import Interrupted as Interrupted
else:
    __getattr__, __dir__ = lazy_exports(
        __name__,
        {
            "Experiment": "bruno.training.config",
            "Interrupted": "bruno.training.stopping",
            "ModelConfig": "bruno.training.config",
            "NonFiniteError": "bruno.training.nonfinite",
            "Objective": "bruno.training.objectives",
            "ObjectiveConfig": "bruno.training.objectives",
            "TrainingConfig": "bruno.training.config",
            "train": "bruno.training.loop",
        },
    )

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
