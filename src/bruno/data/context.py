"""Context features of images for conditional models: named numbers, and angles among them."""

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
from bruno.validation import check_type


@dataclass(frozen=True)
class ContextFeature:
    """A number that describes every image, an input of conditional models.

    Attributes:
        name: Its name, such as ``azimuth``.
        is_angle: Whether it is an angle in degrees, which enters the context as its sine and
            cosine: 359 is next to 0.
    """

    name: str
    is_angle: bool = False

    @property
    def dim(self) -> int:
        """Number of entries of the context."""
        return 2 if self.is_angle else 1


def angle_positions(features: Sequence[ContextFeature]) -> tuple[int, ...]:
    """Return the positions of the sines of angles in a context; the cosine follows each.

    Example:
        >>> angle_positions([ContextFeature("size"), ContextFeature("azimuth", is_angle=True)])
        (1,)
    """
    ends = itertools.accumulate(feature.dim for feature in features)
    return tuple(end - 2 for end, feature in zip(ends, features, strict=True) if feature.is_angle)


def features_of_model(config: Mapping[str, Any]) -> tuple[ContextFeature, ...]:
    """Return the context features of a saved model, from its configuration; none if unknown."""
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    kept = metadata.get("context_features", metadata.get("context_labels"))  # the older name
    if not isinstance(kept, Mapping):
        return ()
    return tuple(ContextFeature(name, bool(is_angle)) for name, is_angle in kept.items())


def check_same_features(
    argument: str,
    source: str,
    features: Sequence[ContextFeature],
    expected: Sequence[ContextFeature],
) -> None:
    """Raise if images have other context features than expected, or in another order.

    Args:
        argument: Name of the argument, for the error.
        source: Where the images come from, for the error.
        features: Their context features.
        expected: Those they should have.

    Raises:
        UserError: If the two differ.
    """
    if tuple(features) != tuple(expected):
        raise UserError(
            f"{argument}: expected images with {_described(expected)}, got {_described(features)} "
            f"from {source}"
        )


def encode_context(
    features: Sequence[ContextFeature], values: Mapping[str, Tensor | float]
) -> Tensor:
    """Return the context of images from their features.

    Args:
        features: Context features of the model, in order.
        values: The value of each of them: numbers, or tensors of one shape ``(*B,)``; angles in
            degrees.

    Returns:
        float32 ``(*B, context_dim)``: an angle as its sine and cosine, other numbers as they are.

    Raises:
        UserError: If a feature is missing, unknown or not finite.

    Example:
        >>> encode_context([ContextFeature("azimuth", is_angle=True)], {"azimuth": 90.0})
        tensor([1., 0.])
    """
    for feature in features:
        check_type("features", feature, ContextFeature)
    known = [feature.name for feature in features]
    if sorted(values) != sorted(known):
        raise UserError(
            f"context: expected a value of {_listing(known)}, got {_listing(sorted(values))}"
        )
    columns = []
    for feature in features:
        given = values[feature.name]
        device = given.device if torch.is_tensor(given) else "cpu"
        try:
            value = torch.as_tensor(given, device=device, dtype=torch.float64)
        except (TypeError, ValueError):
            raise UserError(
                f"context: expected numbers for {feature.name}, got {given!r}"
            ) from None
        wrong = value[~torch.isfinite(value)]
        if len(wrong):
            raise UserError(
                f"context: expected finite numbers for {feature.name}, got {float(wrong[0])}"
            )
        radians = value.deg2rad()
        columns += [radians.sin(), radians.cos()] if feature.is_angle else [value]
    encoded = torch.stack(torch.broadcast_tensors(*columns), -1)
    # The cosine of 90 degrees is 6e-17 in floating point.
    return torch.where(encoded.abs() < 1e-15, 0.0, encoded).float()


def read_context_file(
    file: Path, angles: Sequence[str], images: Sequence[str]
) -> tuple[tuple[ContextFeature, ...], dict[str, Tensor]]:
    """Read the context features of images from a CSV file.

    Args:
        file: A file with a header: a column ``file`` and one for every feature.
        angles: The features that are angles in degrees.
        images: The images whose features are wanted, as the column ``file`` names them.

    Returns:
        The features, in the order of the columns, and the values of each for the images in order.

    Raises:
        MissingDataError: If the file is not there.
        UserError: If the file is no text in UTF-8, a column, a row or a number is missing, or an
            image has two rows.
    """
    if not file.is_file():
        raise MissingDataError(f"context_file: {file} not found")
    try:
        # Spreadsheets put a byte order mark in front, which utf-8-sig leaves out.
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream, skipinitialspace=True)
            columns = list(reader.fieldnames or ())
            listed = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"context_file: expected CSV in UTF-8, {file} is not: {error}") from None
    names = [name for name in columns if name != "file"]
    if "file" not in columns or not names or len(set(columns)) < len(columns) or "" in columns:
        raise UserError(
            "context_file: expected a column file and one for every feature, with names of their "
            f"own, in {file}, got {_listing(list(map(repr, columns)))}"
        )
    longer = next((row["file"] for row in listed if None in row), None)
    if longer is not None:
        raise UserError(f"context_file: {file} has more columns for {longer} than names of columns")
    unknown = [name for name in angles if name not in names]
    if unknown:
        raise UserError(
            f"angles: {file} has the features {_listing(names)}, but not {_listing(unknown)}"
        )
    rows = {row["file"]: row for row in listed}
    if len(rows) < len(listed):
        twice = next(row["file"] for row in listed if rows[row["file"]] is not row)
        raise UserError(f"context_file: {file} has more than one row for {twice}")
    missing = [image for image in images if image not in rows]
    if missing:
        raise UserError(
            f"context_file: {file} has no row for {len(missing)} images, such as {missing[0]}"
        )
    values = {
        name: torch.tensor(
            [_number(file, image, name, rows[image][name]) for image in images],
            device="cpu",
            dtype=torch.float64,
        )
        for name in names
    }
    return tuple(ContextFeature(name, name in angles) for name in names), values


def _number(file: Path, image: str, name: str, text: str | None) -> float:
    try:
        number = float(text or "")
    except ValueError:
        number = math.nan
    if not abs(number) <= torch.finfo(torch.float32).max:
        raise UserError(
            f"context_file: expected a number for {name} of {image} in {file}, got {text!r}"
        )
    return number


def _described(features: Sequence[ContextFeature]) -> str:
    return _listing([f"{feature.name}{' (an angle)' * feature.is_angle}" for feature in features])


def _listing(names: Sequence[str]) -> str:
    return ", ".join(names) if names else "no feature"
