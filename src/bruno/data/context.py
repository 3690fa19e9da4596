"""What a conditional model is told about every image: named labels, and angles among them."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bruno.errors import MissingDataError, UserError


@dataclass(frozen=True)
class Label:
    """A number known of every image.

    Attributes:
        name: What it is called, as in ``azimuth``.
        is_angle: Whether it is an angle in degrees: 359 is then next to 0, because the model is
            told its sine and cosine.
    """

    name: str
    is_angle: bool = False

    @property
    def dim(self) -> int:
        """Number of entries of the context that tell it."""
        return 2 if self.is_angle else 1


def encode_context(labels: Sequence[Label], values: Mapping[str, Tensor | float]) -> Tensor:
    """Return the context of images from their labels.

    Args:
        labels: The labels a model knows, in their order.
        values: The value of each of them: numbers, or tensors of one shape ``(*B,)``; angles in
            degrees.

    Returns:
        float32 ``(*B, context_dim)``: an angle as its sine and cosine, other numbers as they are.

    Raises:
        UserError: If a label is missing, unknown or not finite.

    Example:
        >>> encode_context([Label("azimuth", is_angle=True)], {"azimuth": 90.0})
        tensor([1., 0.])
    """
    known = [label.name for label in labels]
    if sorted(values) != sorted(known):
        raise UserError(
            f"context: expected a value of {_listing(known)}, got {_listing(sorted(values))}"
        )
    columns = []
    for label in labels:
        value = torch.as_tensor(values[label.name], dtype=torch.float64)
        if not bool(torch.isfinite(value).all()):
            raise UserError(f"context: expected finite numbers for {label.name}, got {value}")
        radians = value.deg2rad()
        columns += [radians.sin(), radians.cos()] if label.is_angle else [value]
    encoded = torch.stack(torch.broadcast_tensors(*columns), -1)
    # The cosine of 90 degrees is 6e-17 in floating point.
    return torch.where(encoded.abs() < 1e-15, 0.0, encoded).float()


def read_labels(
    file: Path, angles: Sequence[str], images: Sequence[str]
) -> tuple[tuple[Label, ...], dict[str, Tensor]]:
    """Read the labels of images from a CSV file.

    Args:
        file: A file with a header: a column ``file`` and one for every label.
        angles: The labels that are angles in degrees.
        images: The images whose labels are wanted, as the column ``file`` names them.

    Returns:
        The labels, in the order of the columns, and the values of each for the images in order.

    Raises:
        MissingDataError: If the file is not there.
        UserError: If a column, a row or a number is missing.
    """
    if not file.is_file():
        raise MissingDataError(f"labels: {file} not found")
    with file.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        columns = list(reader.fieldnames or ())
        rows = {row.get("file"): row for row in reader}
    names = [name for name in columns if name != "file"]
    if "file" not in columns or not names:
        raise UserError(
            f"labels: expected a column file and one for every label in {file}, got "
            f"{_listing(columns)}"
        )
    unknown = [name for name in angles if name not in names]
    if unknown:
        raise UserError(
            f"angles: {file} has the labels {_listing(names)}, but not {_listing(unknown)}"
        )
    missing = [image for image in images if image not in rows]
    if missing:
        raise UserError(
            f"labels: {file} has no row for {len(missing)} images, such as {missing[0]}"
        )
    values = {
        name: torch.tensor(
            [_number(file, image, name, rows[image][name]) for image in images], dtype=torch.float64
        )
        for name in names
    }
    return tuple(Label(name, name in angles) for name in names), values


def _number(file: Path, image: str, name: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise UserError(f"labels: expected a number for {name} of {image} in {file}, got {text!r}")
    return number


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no label"
