"""Everything that determines a training run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import yaml
from jsonargparse import ArgumentError, ArgumentParser

from bruno.compatibility import current_experiment
from bruno.data.augmentation import Augmentation
from bruno.data.context import (
    ContextFeature,
    angle_positions,
    check_same_features,
    features_of_model,
)
from bruno.data.registry import DataConfig
from bruno.errors import UserError
from bruno.flows import ARCHITECTURES
from bruno.flows.block_sums import take_pixels
from bruno.model import Bruno
from bruno.pretrained import build, check_process, load, locate, read_config
from bruno.training.objectives import ObjectiveConfig
from bruno.validation import (
    check_choice,
    check_number,
    check_positive,
    check_share,
    check_whole,
)


@dataclass(frozen=True)
class ModelConfig:
    """The model: a flow and a process.

    Attributes:
        preset: Flow architecture, one of those of :class:`~bruno.RealNVP`; by default compact for
            images.
        process: Latent process: gaussian or student_t.
        filters: Width of convolutional conditioners, one number or one per resolution; by default
            the preset's.
        residual_blocks: Residual blocks per convolutional conditioner; by default the preset's.
        dense_units: Width of dense conditioners; by default the preset's.
        dense_couplings: Number of dense couplings; by default the preset's.
        couplings: Number of convolutional couplings, one number or one per resolution; by default
            the preset's.
        bins: Bins of every spline; by default the preset's.
        pixel_units: Width of the network for pixels given sums; by default the preset's.
        pixels_from: Take that network from another model, by name or directory, and leave it as
            it is; training is then of the sums only.
        initial_correlation_range: Correlation of two elements of a set that the first and the last
            latent dimension start with, evenly spread between them; by default 0.1 in all (the
            paper's). Dimensions that are independent of the set by design have none.
        steering: Rotate latent dimensions by the angles among the context features; an
            unconditional model of the same recipe needs false.
        pretrained: Go on from the weights of a model, by name or directory, instead of training
            from scratch; flow and process are then those of that model, but for pixels_from.
    """

    preset: str | None = None
    process: str = "gaussian"
    filters: int | tuple[int, ...] | None = None
    residual_blocks: int | None = None
    dense_units: int | None = None
    dense_couplings: int | None = None
    couplings: int | tuple[int, ...] | None = None
    bins: int | None = None
    pixel_units: int | None = None
    pixels_from: str | None = None
    initial_correlation_range: tuple[float, float] | None = None
    steering: bool = False
    pretrained: str | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: If preset or process is unknown, weights and an architecture are both given,
                or initial_correlation_range is not within [0, 1).
        """
        if self.preset is not None:
            check_choice("preset", self.preset, ARCHITECTURES)
        check_process(self.process)
        correlations = list(self.initial_correlation_range or ())
        if not all(0 <= correlation < 1 for correlation in correlations):
            raise UserError(
                f"initial_correlation_range: expected two numbers within [0, 1), got {correlations}"
            )
        given = [f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default]
        other = [name for name in given if name not in ("pretrained", "pixels_from")]
        if self.pretrained is not None and other:
            raise UserError(
                "model: pretrained weights bring their own flow and process, but "
                f"{', '.join(other)} was given, too"
            )

    def build(
        self,
        event_shape: tuple[int, ...],
        context_dim: int,
        context_features: Sequence[ContextFeature] = (),
    ) -> Bruno:
        """Return the model to train, for elements of a given shape.

        Args:
            event_shape: Shape of an element.
            context_dim: Size of its context; 0 for none.
            context_features: The features of the context, where they are known.

        Raises:
            UserError: If an argument is not one a model can be built from, the weights are of
                a model for other elements, or there is no angle to steer by.
        """
        if self.pretrained is None:
            angles = angle_positions(context_features) if self.steering else ()
            if self.steering and not angles:
                raise UserError(
                    "steering: expected context features with an angle among them, got none"
                )
            model = build(self._flow_config(event_shape, context_dim, angles), self.process)
            correlation = model.process.correlation.detach().clone()
            code = correlation[: model.flow.code_dim]
            if self.initial_correlation_range is not None:
                first, last = self.initial_correlation_range
                code.copy_(
                    torch.linspace(first, last, len(code), device="cpu", dtype=torch.float64)
                )
            correlation[len(code) :] = 0.0
            model.process.set_correlation(correlation)
            return self._with_pixels(model)
        model = load(self.pretrained)
        if (model.event_shape, model.flow.context_dim) != (event_shape, context_dim):
            raise UserError(
                f"pretrained: {self.pretrained} takes elements of shape {model.event_shape} with "
                f"{model.flow.context_dim} context entries, the data have {event_shape} with "
                f"{context_dim}"
            )
        expected = features_of_model(read_config(locate(self.pretrained)))
        if expected:
            check_same_features("data", "the data set", context_features, expected)
        return self._with_pixels(model)

    def _with_pixels(self, model: Bruno) -> Bruno:
        """Return the model, in place with the pixels of another one if it takes them from there."""
        if self.pixels_from is not None:
            take_pixels(model.flow, load(self.pixels_from).flow, self.pixels_from)
        return model

    def _flow_config(
        self, event_shape: tuple[int, ...], context_dim: int, context_angles: tuple[int, ...]
    ) -> dict[str, Any]:
        """Return the keyword arguments of the flow for elements of a given shape."""
        sizes = dataclasses.asdict(self)
        for name in (
            "process",
            "initial_correlation_range",
            "steering",
            "pretrained",
            "pixels_from",
        ):
            del sizes[name]
        return {
            "event_shape": event_shape,
            "context_dim": context_dim,
            "context_angles": context_angles,
            **sizes,
        }


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation.

    Attributes:
        steps: Length of the schedule in steps; 2000 where no length is given at all.
        max_minutes: Length of the schedule in minutes of wall-clock time; with ``steps``, too, it
            ends with whichever comes first.
        sets_per_batch: Sets, each of another class, in a batch; with fewer classes, one of each.
        images_per_set: Images in each set.
        batches_per_step: Batches whose gradients are averaged in a step, divided among the
            processes; one for each process where it is not given. A run of several processes
            leads to the weights of one with as many batches a step.
        learning_rate: Peak learning rate of the flow (AdamW).
        process_learning_rate: Peak learning rate of the process, which has few parameters and
            far to go.
        warmup_steps: Steps of linear warm-up; a cosine to 0 follows.
        weight_decay: Decoupled weight decay of the flow.
        gradient_clip: Largest norm of the gradient.
        ema_decay: Decay per step of the averaged weights that are validated and kept.
        rotations: Turn every set by a random multiple of 90 degrees.
        reflections: Mirror every set with probability 1/2; a mirrored class is another class.
        augmentation: Random deformation of every image.
        precision: Arithmetic of the conditioner networks; everything else stays float32/64.
        compile: Compile the flow by ``torch.compile``: a minute or two at the start, faster steps
            after it. Needs a C++ compiler.
        cuda_graphs: On a CUDA device, record the kernels of a step once and launch them together:
            several times faster for small networks. For one process, and objectives without
            prediction. Changes nothing on a CPU.
        validate_every: Steps between validations on held-out classes.
        validation_batches: Batches of a validation.
        checkpoint_every: Steps between checkpoints.
        checkpoint_minutes: Minutes between checkpoints, where ``checkpoint_every`` steps take
            longer.
    """

    steps: int | None = None
    max_minutes: float | None = None
    sets_per_batch: int = 60
    images_per_set: int = 5
    batches_per_step: int | None = None
    learning_rate: float = 1e-3
    process_learning_rate: float = 1e-2
    warmup_steps: int = 50
    weight_decay: float = 0.0
    gradient_clip: float = 5.0
    ema_decay: float = 0.99
    rotations: bool = False
    reflections: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    cuda_graphs: bool = False
    validate_every: int = 200
    validation_batches: int = 8
    checkpoint_every: int = 200
    checkpoint_minutes: float = 2.0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: If a number is out of its range.
        """
        lowest = {
            "steps": 1,
            "sets_per_batch": 2,
            "images_per_set": 2,
            "batches_per_step": 1,
            "warmup_steps": 0,
            "validate_every": 1,
            "validation_batches": 1,
            "checkpoint_every": 1,
        }
        for name, low in lowest.items():
            value = getattr(self, name)
            if value is not None or name not in {"steps", "batches_per_step"}:
                check_whole(name, value, low)
        for name in (
            "learning_rate",
            "process_learning_rate",
            "gradient_clip",
            "max_minutes",
            "checkpoint_minutes",
        ):
            value = getattr(self, name)
            if value is not None or name != "max_minutes":
                check_positive(name, value)
        check_number(
            "weight_decay",
            self.weight_decay,
            "a finite number of at least 0",
            lambda decay: 0 <= decay < math.inf,
        )
        check_share("ema_decay", self.ema_decay, without_highest=True)


@dataclass(frozen=True)
class Experiment:
    """A training run from data to weights.

    Attributes:
        data: The data set.
        model: The model.
        objective: Weights of the objectives.
        training: The optimisation.
        seed: Seed of initialisation, batches and noise.
    """

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what concerns more than one part.

        Raises:
            UserError: If the seed is negative, a support would leave no query in a set, or
                predictions are to be recorded.
        """
        check_whole("seed", self.seed, 0)
        if self.training.cuda_graphs and self.objective.prediction_weight:
            raise UserError(
                "cuda_graphs: expected prediction_weight 0, whose samples are drawn anew in every "
                f"step, got {self.objective.prediction_weight:g}"
            )
        largest = max(self.objective.shots)
        objective = self.objective
        splits_sets = objective.discriminative_weight or objective.prediction_weight
        if splits_sets and largest >= self.training.images_per_set:
            raise UserError(
                f"shots: expected fewer than images_per_set ({self.training.images_per_set}), "
                f"got {largest}"
            )

    def to_dict(self) -> dict[str, Any]:
        """Return the experiment as nested dictionaries of plain values."""
        plain: dict[str, Any] = dataclasses.asdict(self)
        return plain


def experiment_from_yaml(path: Path) -> Experiment:
    """Return the experiment that a YAML recipe describes.

    Raises:
        UserError: If a field is unknown or a value does not fit.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(Experiment, "experiment")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        if isinstance(content, dict):
            content = current_experiment(content)
        parsed = parser.parse_object({"experiment": content})
    except (ArgumentError, yaml.YAMLError, OSError) as error:
        raise UserError(f"config: {path} is not a valid recipe: {error}") from None
    experiment: Experiment = parser.instantiate(parsed).experiment
    return experiment
