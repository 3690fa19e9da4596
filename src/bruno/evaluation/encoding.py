"""Latent vectors of whole data sets: every image through the flow once."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import check_square, dequantise, rotate
from bruno.errors import UserError
from bruno.model import Bruno
from bruno.progress import ProgressCallback
from bruno.validation import check_tensor, check_whole

_BATCH = 500


@torch.no_grad()
def encode_dataset(
    model: Bruno,
    images: Tensor,
    *,
    generator: torch.Generator | None,
    context: Tensor | None = None,
    batch_size: int = _BATCH,
    progress: ProgressCallback | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the latent vectors and log-determinants of 8-bit images.

    Args:
        model: The model; its device does the work and holds the result.
        images: uint8 ``(N, C, H, W)``.
        generator: Source of the one uniform noise draw of every pixel; ``None`` puts every pixel
            in the middle of its bin.
        context: Labels of the images for a conditional model, ``(N, context_dim)``.
        batch_size: Images that go through the flow together.
        progress: Told the number of images done.

    Returns:
        ``z`` of shape ``(N, D)`` in the dtype the flow returns, ``log_det`` of shape
        ``(N,)`` in float64, in nats.

    Raises:
        UserError: If the images are not uint8 or not of the shape the flow takes, or the context
            does not fit.
    """
    check_whole("batch_size", batch_size, 1)
    check_tensor("images", images)
    batches = _batches(images, context, generator, model.device, batch_size, progress)
    z, log_det = zip(*(model(x, of_each) for x, of_each in batches), strict=True)
    return torch.cat(z), torch.cat(log_det).double()


def _batches(
    images: Tensor,
    context: Tensor | None,
    generator: torch.Generator | None,
    device: torch.device,
    batch_size: int,
    progress: ProgressCallback | None,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Yield dequantised images and their context, and tell how many are done."""
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UserError(
            f"images: expected uint8 (N, C, H, W), got {images.dtype} {tuple(images.shape)}"
        )
    if len(images) == 0:
        raise UserError("images: expected at least one, got none")
    for start in range(0, len(images), batch_size):
        part = slice(start, start + batch_size)
        x = dequantise(images[part], generator).to(device)
        yield x, None if context is None else context[part].to(device)
        if progress is not None:
            progress("encoding", min(start + batch_size, len(images)), len(images))


@torch.no_grad()
def encode_rotations(
    model: Bruno,
    dataset: LabelledImages,
    *,
    rotations: bool,
    progress: ProgressCallback | None = None,
) -> Tensor:
    """Encode every image of a data set for classification, in all four rotations if asked for.

    Pixels are put in the middle of their bins, as :func:`~bruno.few_shot.classify` does
    with 8-bit images: a decision needs no noise.

    Args:
        model: The model.
        dataset: The images.
        rotations: Encode every image turned by 0, 90, 180 and 270 degrees; else only as it is.
        progress: Told the number of images done, for every rotation from 0 on.

    Returns:
        Latent vectors, shape ``(R, N, D)`` with ``R = 4`` rotations by 0, 90, 180 and 270 degrees,
        or ``R = 1`` for the images as they are; only the leading dimensions that a class can inform
        (:meth:`~bruno.model.Bruno.encode_code`).

    Raises:
        UserError: As :func:`encode_dataset`; or if images to be rotated are not square.
    """
    if rotations:
        check_square(dataset.images)
    turns = 4 if rotations else 1
    encoded = []
    for turn in range(turns):
        images = rotate(dataset.images, turn)
        batches = _batches(images, dataset.context, None, model.device, _BATCH, progress)
        encoded.append(torch.cat([model.encode_code(x, context) for x, context in batches]))
    return torch.stack(encoded)
