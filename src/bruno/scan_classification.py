"""Classification of pictures of handwriting from a folder of examples, without a terminal.

:func:`classify_scans` takes paths and returns decisions with everything a page or a picture shows;
:mod:`bruno.cli.classify` prints them, and :mod:`bruno.reporting.scan_pictures` draws them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.folder import data_in, load_folder
from bruno.data.image_file import Channels, load_image, load_page
from bruno.data.scans import ScanOptions
from bruno.errors import UserError, renamed_argument
from bruno.few_shot import classify
from bruno.model import Bruno
from bruno.paths import user_path

# A normal density leaves 3 images in 100,000 further below its mean.
_IMPROBABLE = 4.0


class TypicalDensity(NamedTuple):
    """Log-density of training-like images under the prior predictive, in nats.

    Attributes:
        mean: Its mean.
        std: Its standard deviation over images.
    """

    mean: float
    std: float


@dataclass(frozen=True, eq=False)
class ScanDecision:
    """The class of one picture.

    Attributes:
        file: Where the picture is.
        page: The picture as it came, grey, uint8 ``(1, H, W)``.
        image: The picture as the model takes it, uint8 ``(1, size, size)``.
        best: Class of the highest probability.
        probability: Its probability, under equal prior probabilities of the classes.
        second: Class of the second highest probability.
        second_probability: Its probability.
        log_density: log p(x) under the prior predictive, in nats.
        log_density_given_best: log p(x | examples of the best class), in nats.
        is_improbable: Whether ``log_density`` lies far below that of training images; ``None``
            where the model does not come with typical values.
    """

    file: Path
    page: Tensor
    image: Tensor
    best: str
    probability: float
    second: str
    second_probability: float
    log_density: float
    log_density_given_best: float
    is_improbable: bool | None

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as JSON can hold it, without pictures."""
        return {
            "file": str(self.file),
            "best": self.best,
            "probability": self.probability,
            "second": self.second,
            "second_probability": self.second_probability,
            "log_density": self.log_density,
            "log_density_given_best": self.log_density_given_best,
            "is_improbable": self.is_improbable,
        }


@dataclass(frozen=True, eq=False)
class ScanClassification:
    """Decisions about pictures, and the examples they rest on.

    Attributes:
        decisions: One for every picture, in the order they were given.
        examples: The given images as the model takes them.
        improbable_examples: Share of the examples whose log-density under the prior predictive is
            far below that of training images; ``None`` where that is not known.
    """

    decisions: tuple[ScanDecision, ...]
    examples: LabelledImages
    improbable_examples: float | None

    def examples_of(self, name: str) -> Tensor:
        """Return the examples of a class, uint8 ``(n, 1, size, size)``."""
        return self.examples.images[self.examples.indices_of(self.examples.class_names.index(name))]

    def warnings(self) -> list[str]:
        """Return one sentence for each kind of image the model is not made for."""
        found = []
        names = [str(decision.file) for decision in self.decisions if decision.is_improbable]
        if names:
            found.append(
                f"far less probable than training images, so its class is not to be trusted: "
                f"{', '.join(names)}"
            )
        if self.improbable_examples:
            found.append(
                f"{self.improbable_examples:.0%} of the given images are far less probable than "
                "training images; look at them in the picture"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the decisions as JSON can hold them."""
        return {
            "classes": list(self.examples.class_names),
            "examples": self.examples.class_sizes.tolist(),
            "improbable_examples": self.improbable_examples,
            "images": [decision.to_dict() for decision in self.decisions],
        }


@torch.no_grad()
def classify_scans(
    model: Bruno,
    given: str | Path,
    files: Sequence[str | Path],
    *,
    prepare: ScanOptions | None = None,
    invert: bool = False,
    card: Mapping[str, Any] | None = None,
) -> ScanClassification:
    """Classify pictures by the examples in a folder.

    Args:
        model: A model of square images without context.
        given: Folder with one sub-folder of examples per class, as
            :func:`~bruno.data.folder.load_folder` takes it.
        files: Pictures to classify, or folders of them.
        prepare: Prepare examples and pictures as scans; for a model of grey images.
        invert: Turn dark ink on white paper into bright ink on black, without preparation.
        card: Card of the model, for :func:`typical_density`.

    Returns:
        One decision for every picture.

    Raises:
        MissingDataError: If the folder or a file is not there.
        UserError: If the model takes no such images, the folder has fewer than two classes, there
            are no pictures, or one cannot be read or prepared.
    """
    if len(model.event_shape) != 3 or model.event_shape[1] != model.event_shape[2]:
        raise UserError(f"model: expected one of square images, got {model.event_shape}")
    if model.flow.context_dim:
        raise UserError("model: expected one without context, got a conditional model")
    channels, size, _ = model.event_shape
    colours: Channels = "grey" if channels == 1 else "colour"
    paths = _pictures(files)
    with renamed_argument("root", "given"):
        examples = load_folder(
            given, image_size=size, channels=colours, invert=invert, prepare=prepare
        )
    if examples.num_classes < 2:
        raise UserError(f"given: expected at least 2 class folders, got {examples.num_classes}")
    with renamed_argument("path", "files"):
        pages = [load_page(path) for path in paths]
        images = [
            load_image(path, image_size=size, channels=colours, invert=invert, prepare=prepare)
            for path in paths
        ]
    queries = torch.stack(images)
    log_p, _ = classify(model, examples.images, examples.labels, queries)
    order = log_p.argsort(dim=1, descending=True).tolist()
    prior = _prior_log_density(model, queries)
    typical = typical_density(card or {})
    improbable = None if typical is None else is_improbable(prior, typical).tolist()
    decisions = []
    for index, (best, second, *_) in enumerate(order):
        predictive = model.condition(examples.images[examples.indices_of(best)].to(model.device))
        decisions.append(
            ScanDecision(
                file=paths[index],
                page=pages[index],
                image=images[index],
                best=examples.class_names[best],
                probability=float(log_p[index, best].exp()),
                second=examples.class_names[second],
                second_probability=float(log_p[index, second].exp()),
                log_density=float(prior[index]),
                log_density_given_best=float(predictive.log_prob(images[index].to(model.device))),
                is_improbable=None if improbable is None else improbable[index],
            )
        )
    share = None
    if typical is not None:
        unlike = is_improbable(_prior_log_density(model, examples.images), typical)
        share = float(unlike.double().mean())
    return ScanClassification(tuple(decisions), examples, share)


def typical_density(card: Mapping[str, Any]) -> TypicalDensity | None:
    """Return the log-density that images like those of training have under the prior predictive.

    It is read from the figures of the card: ``first``, the negative log-likelihood of the first
    image of a set in nats, with its ``mean`` and its ``std`` over images. (The half width of an
    interval of the mean is no standard deviation.)

    Args:
        card: Card of a model that comes with the package; may be empty.

    Returns:
        ``None`` where the card does not have both numbers.
    """
    first = card.get("figures", {}).get("first", {})
    if not isinstance(first, dict) or not {"mean", "std"} <= first.keys():
        return None
    return TypicalDensity(-float(first["mean"]), float(first["std"]))


def is_improbable(log_density: Tensor, typical: TypicalDensity) -> Tensor:
    """Return which log-densities lie more than 4 standard deviations below typical ones.

    Args:
        log_density: log p(x) under the prior predictive, in nats, any shape.
        typical: Those of images like those of training.

    Returns:
        Booleans of the same shape.
    """
    return log_density < typical.mean - _IMPROBABLE * typical.std


def _prior_log_density(model: Bruno, images: Tensor) -> Tensor:
    return model.prior().log_prob(images.to(model.device)).cpu()


def _pictures(files: Sequence[str | Path]) -> list[Path]:
    """Return the files, and those in folders, in order."""
    paths: list[Path] = []
    for name in files:
        path = user_path(name, "files")
        inside = [file for file in data_in(path) if file.is_file()] if path.is_dir() else [path]
        if not inside:
            raise UserError(f"files: expected pictures in the folder {path}, found no files")
        paths += inside
    if not paths:
        raise UserError("files: expected at least one picture, got none")
    return paths
