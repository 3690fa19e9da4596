"""What a conditional model is told about every image: named labels, and angles among them."""

from __future__ import annotations

import csv
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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


def angle_positions(labels: Sequence[Label]) -> tuple[int, ...]:
    """Return where the context that labels make up has the sine of an angle; its cosine follows.

    Example:
        >>> angle_positions([Label("size"), Label("azimuth", is_angle=True)])
        (1,)
    """
    ends = itertools.accumulate(label.dim for label in labels)
    return tuple(end - 2 for end, label in zip(ends, labels, strict=True) if label.is_angle)


def labels_of_model(config: Mapping[str, Any]) -> tuple[Label, ...]:
    """Return the labels a saved model is told, from its configuration; none if they are unknown."""
    metadata = config.get("metadata")
    kept = metadata.get("context_labels") if isinstance(metadata, Mapping) else None
    if not isinstance(kept, Mapping):
        return ()
    return tuple(Label(name, bool(is_angle)) for name, is_angle in kept.items())


def check_same_labels(
    argument: str, source: str, labels: Sequence[Label], expected: Sequence[Label]
) -> None:
    """Raise if images are told other labels than expected, or in another order.

    Args:
        argument: Name of the argument, for the error.
        source: Where the images come from, for the error.
        labels: What they are told.
        expected: What they should be told.

    Raises:
        UserError: If the two differ.
    """
    if tuple(labels) != tuple(expected):
        raise UserError(
            f"{argument}: expected images told {_described(expected)}, got {_described(labels)} "
            f"from {source}"
        )


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
        given = values[label.name]
        device = given.device if torch.is_tensor(given) else "cpu"
        value = torch.as_tensor(given, device=device, dtype=torch.float64)
        wrong = value[~torch.isfinite(value)]
        if len(wrong):
            raise UserError(
                f"context: expected finite numbers for {label.name}, got {float(wrong[0])}"
            )
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
        UserError: If the file is no text in UTF-8, a column, a row or a number is missing, or an
            image has two rows.
    """
    if not file.is_file():
        raise MissingDataError(f"labels: {file} not found")
    try:
        # Spreadsheets put a byte order mark in front, which utf-8-sig leaves out.
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = list(reader.fieldnames or ())
            listed = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"labels: expected CSV in UTF-8, {file} is not: {error}") from None
    names = [name for name in columns if name != "file"]
    if "file" not in columns or not names or len(set(columns)) < len(columns) or "" in columns:
        raise UserError(
            f"labels: expected a column file and one for every label, with names of their own, in "
            f"{file}, got {_listing(list(map(repr, columns)))}"
        )
    longer = next((row["file"] for row in listed if None in row), None)
    if longer is not None:
        raise UserError(f"labels: {file} has more columns for {longer} than names of columns")
    unknown = [name for name in angles if name not in names]
    if unknown:
        raise UserError(
            f"angles: {file} has the labels {_listing(names)}, but not {_listing(unknown)}"
        )
    rows = {row["file"]: row for row in listed}
    if len(rows) < len(listed):
        twice = next(row["file"] for row in listed if rows[row["file"]] is not row)
        raise UserError(f"labels: {file} has more than one row for {twice}")
    missing = [image for image in images if image not in rows]
    if missing:
        raise UserError(
            f"labels: {file} has no row for {len(missing)} images, such as {missing[0]}"
        )
    values = {
        name: torch.tensor(
            [_number(file, image, name, rows[image][name]) for image in images],
            device="cpu",
            dtype=torch.float64,
        )
        for name in names
    }
    return tuple(Label(name, name in angles) for name in names), values


def _number(file: Path, image: str, name: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not abs(number) <= torch.finfo(torch.float32).max:
        raise UserError(f"labels: expected a number for {name} of {image} in {file}, got {text!r}")
    return number


def _described(labels: Sequence[Label]) -> str:
    return _listing([f"{label.name}{' (an angle)' * label.is_angle}" for label in labels])


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no label"
