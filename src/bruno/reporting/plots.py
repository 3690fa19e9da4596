"""Pictures of models: functions that take and return matplotlib Axes.

None of them touches pyplot's global state. Without ``ax`` they draw on a figure of their own, which
``ax.figure`` is. Colours are those of Okabe & Ito, which stay apart for the colour-blind.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from bruno.errors import UserError
from bruno.evaluation.correlation import correlated_dimensions
from bruno.evaluation.set_likelihood import LikelihoodResult
from bruno.processes import ExchangeableProcess
from bruno.reporting.figures import BLUE, VERMILION, line_axes, to_png
from bruno.reporting.image_grids import (
    image_grid,
    plot_novel_views,
    plot_prior_samples,
    plot_samples_given,
)
from bruno.validation import check_choice

__all__ = [
    "KINDS",
    "Quantity",
    "history_series",
    "image_grid",
    "plot_angle_likelihood",
    "plot_correlated_dimensions",
    "plot_log_likelihood_by_set_size",
    "plot_novel_views",
    "plot_prior_samples",
    "plot_samples_given",
    "plot_training_curve",
    "to_png",
]

KINDS = ("train", "validation")
"""Kinds of rows in a training log."""

Quantity = Literal["nll", "loss", "cross_entropy", "accuracy"]
_QUANTITY_LABELS = {
    "nll": "negative log-likelihood [nats per image]",
    "loss": "loss [nats]",
    "cross_entropy": "cross-entropy [nats per query]",
    "accuracy": "few-shot accuracy [%]",
}


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
        ax = line_axes()
    apart = ((angles - true.unsqueeze(1)).round(decimals=3) + 180) % 360 - 180
    order = apart.argsort(1)
    relative = scores - scores.max(1, keepdim=True).values
    for x, y in zip(apart.gather(1, order), relative.gather(1, order), strict=True):
        ax.plot(x.tolist(), y.tolist(), color=BLUE, alpha=0.35, linewidth=1)
    ax.axvline(0, color=VERMILION, linewidth=1)
    ax.set(xlabel="angle tried, relative to the true one [degrees]")
    ax.set(ylabel="log-likelihood, relative to the best [nats]", xticks=range(-180, 181, 60))
    return ax


def plot_log_likelihood_by_set_size(result: LikelihoodResult, ax: Axes | None = None) -> Axes:
    """Draw the negative log-likelihood of an image over the number of examples of its class.

    In nats, with the 95 % interval as a band; bits/dim on the right.

    Args:
        result: The likelihoods.
        ax: Where to draw.

    Returns:
        The axes that were drawn on.
    """
    ax = ax or line_axes()
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
    ax = ax or line_axes()
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
    ax = ax or line_axes()
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
