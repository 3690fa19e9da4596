"""A short training run that tests of training share, and variants of it."""

import dataclasses

from safetensors.torch import load_file

from bruno.data import DataConfig
from bruno.data.augmentation import Augmentation
from bruno.training import (
    Experiment,
    ModelConfig,
    ObjectiveConfig,
    TrainingConfig,
)

TINY = Experiment(
    data=DataConfig("digits"),
    model=ModelConfig(filters=(8, 8), dense_units=16, dense_couplings=2),
    objective=ObjectiveConfig(shots=(1, 2)),
    training=TrainingConfig(
        steps=30,
        sets_per_batch=10,
        images_per_set=5,
        learning_rate=3e-3,
        warmup_steps=3,
        rotations=True,
        augmentation=Augmentation(degrees=5.0),
        validate_every=10,
        validation_batches=2,
        checkpoint_every=7,
    ),
)


def shortened(steps, **training):
    return dataclasses.replace(
        TINY, training=dataclasses.replace(TINY.training, steps=steps, **training)
    )


def weights(directory):
    return load_file(directory / "model" / "model.safetensors")
