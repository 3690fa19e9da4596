"""Whether an experiment fits its data, found out before the first step."""

from __future__ import annotations

from bruno.data.context import check_same_features
from bruno.data.dataset import LabelledImages
from bruno.errors import UserError
from bruno.training.batches import validation_batch
from bruno.training.config import Experiment


def check_data(
    experiment: Experiment, training_set: LabelledImages, validation_set: LabelledImages
) -> None:
    """Raise unless an experiment fits its data.

    Args:
        experiment: The experiment.
        training_set: Training classes.
        validation_set: Validation classes.

    Raises:
        UserError: If there are too few classes or images, the images have a context that
            reflections would not turn with them, or the two sets have different context features.
    """
    for dataset in (training_set, validation_set):
        if experiment.objective.discriminative_weight and dataset.num_classes < 2:
            raise UserError(
                f"data: {dataset.name}/{dataset.split} has {dataset.num_classes} class, and "
                "telling classes apart needs 2; add classes, or set discriminative_weight to 0"
            )
    if experiment.training.reflections and training_set.context_dim:
        raise UserError(
            "reflections: expected false for images with a context, which is that of another "
            "image in the mirror"
        )
    check_same_features(
        "data",
        f"{validation_set.name}/{validation_set.split}",
        validation_set.context_features,
        training_set.context_features,
    )
    validation_batch(validation_set, experiment, 0)  # impossible validation fails now
