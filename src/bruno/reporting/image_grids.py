"""Pictures made of images in rows and columns, on matplotlib Axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from torch import Tensor

from bruno.data.sets import quantise
from bruno.errors import UserError
from bruno.reporting.figures import DPI, new_axes
from bruno.reporting.mosaic import mosaic

_PIXEL_SCALE = 3
_GAP, _GROUP_GAP = 2, 14  # between images and between groups of columns, in pixels of the images


def image_grid(
    images: Tensor,
    ax: Axes | None = None,
    *,
    row_labels: Sequence[str] | None = None,
    column_groups: Sequence[tuple[str, int]] | None = None,
) -> Axes:
    """Draw images in rows and columns, each pixel as it is.

    Args:
        images: ``(rows, columns, C, H, W)`` with 1 or 3 channels: uint8, or floats in [0, 256].
        ax: Where to draw.
        row_labels: Label at the left of every row.
        column_groups: Heading and number of columns of every group; a gap separates groups.

    Returns:
        The axes that were drawn on.

    Raises:
        UserError: If the shapes, the labels and the groups do not agree.
    """
    if images.ndim != 5 or 0 in images.shape or images.shape[2] not in (1, 3):
        raise UserError(
            "images: expected shape (rows, columns, C, H, W) with C of 1 or 3, got "
            f"{tuple(images.shape)}"
        )
    rows, columns, _, height, width = images.shape
    groups = [("", columns)] if column_groups is None else list(column_groups)
    if sum(size for _, size in groups) != columns:
        raise UserError(f"column_groups: expected {columns} columns in all, got {groups}")
    if row_labels is not None and len(row_labels) != rows:
        raise UserError(f"row_labels: expected {rows} labels, got {len(row_labels)}")
    lefts, centres = _column_positions([size for _, size in groups], width)
    corners = [(row * (height + _GAP), left) for row in range(rows) for left in lefts]
    size = (rows * (height + _GAP) - _GAP, lefts[-1] + width)
    picture = mosaic(list(_pixels(images).flatten(0, 1)), corners, size)
    if ax is None:
        ax = _image_axes(picture, labelled=row_labels is not None)
    ax.imshow(picture, interpolation="nearest", aspect="equal")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0)
    ax.xaxis.tick_top()
    ax.set_xticks(centres, [heading for heading, _ in groups])
    middles = [row * (height + _GAP) + (height - 1) / 2 for row in range(rows)]
    ax.set_yticks(middles if row_labels is not None else [], row_labels)
    return ax


def plot_samples_given(
    given: Tensor,
    samples: Tensor | Mapping[str, Tensor],
    ax: Axes | None = None,
    *,
    row_labels: Sequence[str] | None = None,
) -> Axes:
    """Draw, for every set, the examples a model was given next to its samples.

    Args:
        given: The examples, ``(rows, n, C, H, W)``, uint8 or floats in [0, 256].
        samples: Samples given these, ``(rows, m, C, H, W)``, uint8 or floats in [0, 256]; or
            several kinds of samples under headings of their own.
        ax: Where to draw.
        row_labels: Label of every row, such as the name of the class.

    Returns:
        The axes that were drawn on.

    Raises:
        UserError: If the images do not fit next to each other.
    """
    kinds = samples if isinstance(samples, Mapping) else {"generated": samples}
    for images in kinds.values():
        if given.shape[:1] + given.shape[2:] != images.shape[:1] + images.shape[2:]:
            raise UserError(
                f"samples: expected rows and images as in given, {tuple(given.shape)}, got "
                f"{tuple(images.shape)}"
            )
    groups = {"given": given, **kinds}
    return image_grid(
        torch.cat([_pixels(images) for images in groups.values()], 1),
        ax,
        row_labels=row_labels,
        column_groups=[(heading, images.shape[1]) for heading, images in groups.items()],
    )


def plot_novel_views(
    observed: Tensor,
    truth: Tensor,
    samples: Mapping[str, Tensor],
    ax: Axes | None = None,
) -> Axes:
    """Draw predictions of objects seen once, from other sides, as in *Conditional BRUNO*.

    Every object takes a block of rows: the truth, with the seen view before it, then each kind of
    samples, every column from the same side.

    Args:
        observed: The seen view of every object, ``(objects, C, H, W)``.
        truth: Its views from other sides, ``(objects, V, C, H, W)``.
        samples: By kind, such as ``sample`` or ``mean``: drawn views of the shape of ``truth``.
        ax: Where to draw.

    Returns:
        The axes that were drawn on.

    Raises:
        UserError: If the shapes do not agree.
    """
    for kind, images in samples.items():
        if images.shape != truth.shape:
            raise UserError(
                f"samples: expected {kind} of shape {tuple(truth.shape)}, got {tuple(images.shape)}"
            )
    if observed.shape != truth[:, 0].shape:
        raise UserError(
            f"observed: expected shape {tuple(truth[:, 0].shape)}, got {tuple(observed.shape)}"
        )
    kinds = {"truth": _pixels(truth), **{kind: _pixels(one) for kind, one in samples.items()}}
    first = torch.stack([_pixels(observed), *[torch.zeros_like(_pixels(observed))] * len(samples)])
    rows = torch.cat([first.unsqueeze(2), torch.stack(list(kinds.values()))], 2)
    labels = [kind for _ in range(len(truth)) for kind in kinds]
    groups = [("seen", 1), ("from other sides", truth.shape[1])]
    rows = rows.transpose(0, 1).flatten(0, 1)
    return image_grid(rows, ax, row_labels=labels, column_groups=groups)


def plot_prior_samples(samples: Tensor, ax: Axes | None = None, *, columns: int = 10) -> Axes:
    """Draw samples ``(N, C, H, W)`` row by row; an incomplete last row is left out.

    Args:
        samples: Images, ``(N, C, H, W)``.
        ax: Where to draw.
        columns: Images in a row.

    Returns:
        The axes that were drawn on.

    Raises:
        UserError: If there are not enough samples for one row.
    """
    rows = len(samples) // columns
    if rows < 1:
        raise UserError(f"samples: expected at least {columns}, got {len(samples)}")
    return image_grid(samples[: rows * columns].unflatten(0, (rows, columns)), ax)


def _pixels(images: Tensor) -> Tensor:
    return images.cpu() if images.dtype == torch.uint8 else quantise(images.cpu())


def _column_positions(groups: Sequence[int], width: int) -> tuple[list[int], list[float]]:
    """Return the left edge of every column and the centre of every group, in pixels."""
    lefts: list[int] = []
    centres: list[float] = []
    x = 0
    for size in groups:
        columns = [x + column * (width + _GAP) for column in range(size)]
        lefts += columns
        end = x + size * (width + _GAP) - _GAP
        centres.append((x + end - 1) / 2)
        x = end + _GROUP_GAP
    return lefts, centres


def _image_axes(picture: NDArray[np.uint8], *, labelled: bool) -> Axes:
    """Return axes of which every pixel of the picture covers ``_PIXEL_SCALE`` pixels or more."""
    height, width = picture.shape[0], picture.shape[1]
    # Constrained layout shrinks the axes to make room for the labels: leave it that room.
    room = 1.8 if labelled else 0.2
    size = (width * _PIXEL_SCALE / DPI + room, height * _PIXEL_SCALE / DPI + 0.5)
    return new_axes(size)
