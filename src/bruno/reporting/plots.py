"""Pictures of models: functions that take and return matplotlib Axes.

None of them touches pyplot's global state. Without ``ax`` they draw on a figure of their own, which
``ax.figure`` is. Colours are those of Okabe & Ito, which stay apart for the colour-blind.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bruno.data.sets import quantise
from bruno.errors import UserError
from bruno.evaluation.correlation import correlated_dimensions
from bruno.evaluation.set_likelihood import LikelihoodResult
from bruno.processes import ExchangeableProcess
from bruno.reporting.mosaic import mosaic
from bruno.validation import check_choice

BLUE, VERMILION = "#0072B2", "#D55E00"
DPI = 144
"""Resolution of figures made here; image grids show every pixel as at least 3 x 3 of theirs."""

_PIXEL_SCALE = 3
_GAP, _GROUP_GAP = 2, 14  # between images and between groups of columns, in pixels of the images

KINDS = ("train", "validation")
"""Kinds of rows in a training log."""

Quantity = Literal["nll", "loss", "cross_entropy", "accuracy"]
_QUANTITY_LABELS = {
    "nll": "negative log-likelihood [nats per image]",
    "loss": "loss [nats]",
    "cross_entropy": "cross-entropy [nats per query]",
    "accuracy": "few-shot accuracy [%]",
}


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


def to_png(axes: Axes) -> bytes:
    """Return the whole figure these axes are on, as a PNG file.

    Raises:
        UserError: If they are on none.
    """
    figure = axes.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise UserError("axes: expected axes on a figure, got axes without one")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", bbox_inches="tight", dpi=DPI)
    return buffer.getvalue()


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


def plot_angle_likelihood(
    angles: Tensor, scores: Tensor, true: Tensor, ax: Axes | None = None
) -> Axes:
    """Draw how likely views are under every angle, relative to the most likely one.

    Args:
        angles: The angles tried for every view, in degrees, ``(views, K)``.
        scores: log p(view | angle) in nats, ``(views, K)``.
        true: The angle each view was taken from, in degrees, ``(views,)``.
        ax: Where to draw.

    Returns:
        The axes that were drawn on.

    Raises:
        UserError: If the shapes do not agree.
    """
    if scores.shape != angles.shape or len(scores) != len(true):
        raise UserError(
            f"scores: expected shape {tuple(angles.shape)} for {len(true)} views, got "
            f"{tuple(scores.shape)}"
        )
    if ax is None:
        ax = _line_axes()
    apart = ((angles - true.unsqueeze(1)).round(decimals=3) + 180) % 360 - 180
    order = apart.argsort(1)
    relative = scores - scores.max(1, keepdim=True).values
    for x, y in zip(apart.gather(1, order), relative.gather(1, order), strict=True):
        ax.plot(x.tolist(), y.tolist(), color=BLUE, alpha=0.35, linewidth=1)
    ax.axvline(0, color=VERMILION, linewidth=1)
    ax.set(xlabel="angle tried, relative to the true one [degrees]")
    ax.set(ylabel="log-likelihood, relative to the best [nats]", xticks=range(-180, 181, 60))
    return ax


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


def plot_log_likelihood_by_set_size(result: LikelihoodResult, ax: Axes | None = None) -> Axes:
    """Draw the negative log-likelihood of an image over the number of examples of its class.

    In nats, with the 95 % interval as a band; bits/dim on the right.

    Args:
        result: The likelihoods.
        ax: Where to draw.

    Returns:
        The axes that were drawn on.
    """
    ax = ax or _line_axes()
    mean = np.array([position.mean for position in result.curve])
    half = np.array([position.half_width for position in result.curve])
    seen = np.arange(len(mean))
    ax.plot(seen, mean, color=BLUE, marker="o", markersize=4, label="mean")
    if np.isfinite(half).all():
        ax.fill_between(
            seen, mean - half, mean + half, color=BLUE, alpha=0.2, lw=0, label="95 % interval"
        )
    ax.set_xlabel("examples seen before")
    ax.set_ylabel(r"$-\log\,p$ [nats per image]")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    nats_per_bit = result.dim * math.log(2)

    def to_bits(nats: ArrayLike) -> ArrayLike:
        return np.asarray(nats) / nats_per_bit

    def to_nats(bits: ArrayLike) -> ArrayLike:
        return np.asarray(bits) * nats_per_bit

    right = ax.secondary_yaxis("right", functions=(to_bits, to_nats))
    right.set_ylabel("bits/dim")
    ax.legend(frameon=False)
    return ax


def plot_correlated_dimensions(
    process: ExchangeableProcess, ax: Axes | None = None, *, points: int = 200
) -> Axes:
    r"""Draw how many latent dimensions have a correlation :math:`\rho / v` above ε, log-log.

    Args:
        process: The process.
        ax: Where to draw.
        points: Number of thresholds, from 1e-4 to 1.

    Returns:
        The axes that were drawn on.
    """
    ax = ax or _line_axes()
    epsilons = torch.logspace(-4, 0, points, device="cpu", dtype=torch.float64)
    counts = correlated_dimensions(process, epsilons)
    shown = counts > 0  # zero has no logarithm
    ax.step(epsilons[shown].numpy(), counts[shown].numpy(), color=BLUE, where="post")
    ax.axhline(process.dim, color="0.5", lw=0.8, ls="--")
    ax.annotate(
        f"all {process.dim} dimensions",
        (0.98, process.dim),
        (0, -4),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        ha="right",
        va="top",
        color="0.4",
    )
    ax.set(xscale="log", yscale="log", xlim=(1e-4, 1), ylim=(0.8, 1.6 * process.dim))
    ax.set_xlabel(r"threshold $\varepsilon$")
    ax.set_ylabel(r"latent dimensions with $\rho/v > \varepsilon$")
    return ax


def plot_training_curve(
    history: Sequence[Mapping[str, Any]],
    ax: Axes | None = None,
    *,
    quantity: Quantity = "nll",
) -> Axes:
    """Draw how one quantity changed during training, on training and validation data.

    Args:
        history: Rows with ``kind`` ``"train"`` or ``"validation"``, ``step`` and the quantity;
            rows where it is missing, ``None`` or not finite are left out.
        ax: Where to draw.
        quantity: ``nll`` (negative log-likelihood per image), ``loss``, ``cross_entropy``, or
            ``accuracy`` (a fraction, drawn in per cent).

    Returns:
        The axes that were drawn on.

    Raises:
        UserError: If the quantity is not one of these.
    """
    check_choice("quantity", quantity, _QUANTITY_LABELS)
    ax = ax or _line_axes()
    scale = 100.0 if quantity == "accuracy" else 1.0
    settled = []
    for kind, colour, marker in zip(KINDS, (BLUE, VERMILION), ("", "o"), strict=True):
        steps, values = history_series(history, kind, quantity)
        if len(steps):
            dense = len(steps) > 40
            ax.plot(
                steps,
                scale * values,
                color=colour,
                marker="" if dense else marker,
                markersize=4,
                lw=1 if kind == "train" else 1.8,
                alpha=0.7 if kind == "train" else 1,
                label=kind if kind == "validation" else "training",
            )
            settled.append(scale * values[len(values) // 20 :])
    if settled and quantity != "accuracy":
        # The loss of the first steps is many times larger and would flatten the curve.
        low, high = min(part.min() for part in settled), max(part.max() for part in settled)
        margin = 0.05 * (high - low) or 1.0
        ax.set_ylim(low - margin, high + margin)
    ax.set_xlabel("training step")
    ax.set_ylabel(_QUANTITY_LABELS[quantity])
    if settled:
        ax.legend(frameon=False)
    return ax


def history_series(
    history: Sequence[Mapping[str, Any]], kind: str, quantity: str
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the steps and the finite values of a quantity in the rows of one kind.

    Args:
        history: Rows of a training log.
        kind: ``train`` or ``validation``.
        quantity: Key of the quantity.
    """
    pairs = [
        (row["step"], row[quantity])
        for row in history
        if row.get("kind") == kind
        and row.get(quantity) is not None
        and math.isfinite(row[quantity])
    ]
    series = np.array(pairs, dtype=np.float64).reshape(-1, 2)
    return series[:, 0], series[:, 1]


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
    return _new_axes(size)


def _line_axes() -> Axes:
    ax = _new_axes((6.0, 3.6))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25, lw=0.6)
    return ax


def _new_axes(size: tuple[float, float]) -> Axes:
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure.add_subplot()
