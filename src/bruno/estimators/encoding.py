"""Rows of a table through the flow of a model and back, some at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bruno import chunks
from bruno.errors import UserError
from bruno.flows import RealNVP
from bruno.flows.affine import ActivationNorm
from bruno.flows.flow import Flow
from bruno.flows.preprocessing import LEVELS
from bruno.flows.yeo_johnson import YeoJohnson
from bruno.model import Bruno
from bruno.pixels import check_levels, in_bins

_DENSE_UNITS = 256
# Squares of latent coordinates up to this, and sums of very many, are finite.
_FURTHEST = 1e100


class TooFarError(UserError):
    """An element is so far from the training data of a model that its density is no number."""


def as_rows(X: Any, event_shape: tuple[int, ...]) -> Any:  # noqa: N803
    """Return images of this shape as rows of pixels, and all else as it is.

    Args:
        X: A table or images.
        event_shape: Shape of an element of the model.

    Raises:
        UserError: If these are images of another shape.
    """
    if len(event_shape) == 1 or hasattr(X, "iloc") or hasattr(X, "tocsr"):
        return X
    pixels = np.asarray(X)
    if pixels.ndim <= 2:
        return pixels
    shapes = [event_shape, event_shape[1:]] if event_shape[0] == 1 else [event_shape]
    if pixels.shape[1:] not in shapes:
        expected = " x ".join(map(str, event_shape))
        raise UserError(
            f"X: expected images of {expected} or rows of {math.prod(event_shape)} grey levels, "
            f"got shape {pixels.shape}"
        )
    return pixels.reshape(len(pixels), -1)


def as_tensor(array: np.ndarray) -> Tensor:
    """Return an array as a tensor that is not to be changed; a copy only where torch needs one."""
    # Torch takes no negative strides, and warns of read-only arrays, as those that processes share.
    array = np.ascontiguousarray(array)
    return torch.from_numpy(array if array.flags.writeable else array.copy())


def encoded(model: Bruno, x: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return latent vectors ``(N, D)`` and log-determinants ``(N,)`` of rows, in float64.

    Args:
        model: The model.
        x: Elements as rows, ``(N, D)``. NaN where an entry is missing, if the map of the model does
            not mix columns: it is NaN in the latent vector, too, and the log-determinant is that of
            the others.

    Raises:
        UserError: If a model of images is given pixels of the wrong kind; see :mod:`bruno.pixels`.
        TooFarError: If an element is too far away to have a density.
    """
    if len(model.event_shape) == 3:
        check_levels("X", as_tensor(x).reshape(-1, *model.event_shape))
    missing = np.isnan(x)
    if missing.any():
        centre, log_slope = centre_of_columns(model.flow)
        z, log_det = encoded(model, np.where(missing, centre.cpu().numpy(), x))
        gaps = torch.from_numpy(missing).to(z.device)
        return torch.where(gaps, torch.nan, z), log_det - gaps.double() @ log_slope
    number = _rows_at_once(model)
    if len(x) <= number:
        z, log_det = _encoded_at_once(model, x)
    else:
        starts = range(0, len(x), number)
        parts = [_encoded_at_once(model, x[start : start + number]) for start in starts]
        z, log_det = (torch.cat(column) for column in zip(*parts, strict=True))
    check_near(z)
    return z, log_det


def check_near(z: Tensor) -> None:
    """Raise if latent vectors are too far away to have a density.

    Raises:
        TooFarError: If one is.
    """
    if not all(abs(extreme.item()) <= _FURTHEST for extreme in z.aminmax()):
        raise TooFarError(
            f"X: expected elements less than {_FURTHEST:g} standard deviations from what the "
            "model was fitted to, got one so far away that densities are no numbers"
        )


@dataclass(frozen=True)
class FittedModel:
    """A model and the elements that it was fitted to.

    Attributes:
        model: The model.
        latent: What :func:`encoded` returns of the elements; None where fitting did not need it.
    """

    model: Bruno
    latent: tuple[Tensor, Tensor] | None = None


def keeps_columns_apart(model: Bruno) -> bool:
    """Return whether every latent dimension is one column of the table, in units of its own."""
    flow = model.flow
    return isinstance(flow, RealNVP) and flow.config["preset"] == "diagonal"


def centre_of_columns(flow: Flow) -> tuple[Tensor, Tensor]:
    """Return a number of every column and the log-slope of the map there, ``(D,)`` each.

    Args:
        flow: One that keeps columns apart.
    """
    layers = list(flow.modules())
    scale = next(layer for layer in layers if isinstance(layer, ActivationNorm))
    # At their centre, power maps have slope 1.
    centres = [layer.centre for layer in layers if isinstance(layer, YeoJohnson)]
    log_slope = scale.log_scale.detach().double()
    return (centres[0] if centres else torch.zeros_like(log_slope)), log_slope


def _encoded_at_once(model: Bruno, x: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return what :func:`encoded` does, of rows whose latent vectors may be of any size."""
    elements = as_tensor(x).to(model.device)
    if len(model.event_shape) == 3:
        elements = in_bins(elements.reshape(-1, *model.event_shape))
    # Not the model, which would judge the pixels of these rows alone.
    z, log_det = model.flow(elements)
    return z.double(), log_det.double()


def decoded(model: Bruno, z: Tensor) -> np.ndarray:
    """Return the elements of latent vectors ``(N, D)`` as rows; of images grey levels in uint8.

    Args:
        model: The model.
        z: Latent vectors, ``(N, D)``.
    """
    parts = [model.decode(rows).flatten(1) for rows in z.split(_rows_at_once(model))]
    rows: np.ndarray = torch.cat(parts).double().cpu().numpy()
    if len(model.event_shape) == 1:
        return rows
    levels: np.ndarray = np.floor(rows).clip(0, LEVELS - 1).astype(np.uint8)
    return levels


def _rows_at_once(model: Bruno) -> int:
    """Return how many elements pass the flow at once, in bounded memory."""
    dim = model.process.dim
    if len(model.event_shape) == 3:
        return chunks.rows_per_chunk(dim, chunks.PIXELS)
    return chunks.rows_per_chunk(max(dim, _DENSE_UNITS), chunks.TABLE_ELEMENTS)
