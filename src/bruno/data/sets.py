"""Sampling of sets and episodes, and dequantisation of 8-bit pixels."""

from dataclasses import dataclass

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.errors import UserError
from bruno.seeding import uniform
from bruno.validation import (
    check_floating,
    check_generator,
    check_tensor,
    check_whole,
)


@dataclass(frozen=True, eq=False)
class Sets:
    """Sets of images, each of one class.

    Attributes:
        images: uint8 ``(S, n, C, H, W)``.
        classes: Class of every set, int64 ``(S,)``.
        context: float32 ``(S, n, context_dim)``, or ``None`` where the data has none.
    """

    images: Tensor
    classes: Tensor
    context: Tensor | None


@dataclass(frozen=True, eq=False)
class Episode:
    """One few-shot task: name the class of every query from a few examples of each class.

    Attributes:
        support: uint8 ``(way, shot, C, H, W)``.
        query: uint8 ``(way, queries, C, H, W)``; none of them is in the support.
        classes: Class of every row, int64 ``(way,)``.
    """

    support: Tensor
    query: Tensor
    classes: Tensor


def sample_sets(
    dataset: LabelledImages,
    sets: int,
    size: int,
    generator: torch.Generator,
    *,
    rotations: bool = False,
    augmented_images: bool = False,
) -> Sets:
    """Draw sets of distinct images, each set from a different class.

    Args:
        dataset: Where to draw from.
        sets: Number of sets S.
        size: Number of images n in each.
        generator: Source of randomness.
        rotations: Turn every set by a random multiple of 90 degrees, the same for all its images.
        augmented_images: Take a random one of every image and its augmented copies, if there are
            any.

    Returns:
        Images ``(S, n, C, H, W)``, their classes ``(S,)`` and, if there is one, their context.

    Raises:
        UserError: If there are fewer classes than ``sets``, if a class has fewer images than
            ``size``, or if ``rotations`` are asked of images that are not square.
    """
    check_whole("sets", sets, 1)
    check_whole("size", size, 1)
    check_generator("generator", generator)
    if sets > dataset.num_classes:
        raise UserError(
            f"sets: {dataset.name}/{dataset.split} has {dataset.num_classes} classes, "
            f"too few for {sets} sets of different classes"
        )
    _check_class_sizes(dataset, size)
    if rotations:
        check_square(dataset.images)
    device = generator.device
    order = torch.randperm(dataset.num_classes, generator=generator, device=device)
    classes = order[:sets]
    table = dataset.index_table[classes]
    # The smallest `size` of independent uniform keys are a uniform choice without replacement;
    # padding gets keys above 1 and is never chosen.
    keys = uniform(table.shape, generator).masked_fill(table < 0, 2.0)
    members = keys.topk(size, dim=1, largest=False, sorted=True).indices
    indices = table.gather(1, members)
    images = dataset.images[indices]
    if augmented_images and dataset.augmented_images is not None:
        number = len(dataset.augmented_images) + 1
        which = torch.randint(number, indices.shape, generator=generator, device=device)
        copies = dataset.augmented_images[(which - 1).clamp_min(0), indices]
        images = torch.where(which.view(*which.shape, 1, 1, 1) > 0, copies, images)
    if rotations:
        turns = torch.randint(4, (sets,), generator=generator, device=device)
        images = _rotate_each(images, turns)
    context = None if dataset.context is None else dataset.context[indices]
    return Sets(images=images, classes=classes, context=context)


def sample_episode(
    dataset: LabelledImages,
    way: int,
    shot: int,
    queries: int,
    generator: torch.Generator,
    *,
    rotations: bool = False,
) -> Episode:
    """Draw one few-shot task.

    Args:
        dataset: Where to draw from.
        way: Number of classes.
        shot: Number of support images of each class.
        queries: Number of query images of each class.
        generator: Source of randomness.
        rotations: Turn every class by a random multiple of 90 degrees, the same for all its images.

    Returns:
        Support ``(way, shot, C, H, W)``, queries ``(way, queries, C, H, W)`` and classes
        ``(way,)``.

    Raises:
        UserError: As :func:`sample_sets`, for sets of ``shot + queries`` images.
    """
    for name, number in (("way", way), ("shot", shot), ("queries", queries)):
        check_whole(name, number, 1)
    drawn = sample_sets(dataset, way, shot + queries, generator, rotations=rotations)
    return Episode(
        support=drawn.images[:, :shot], query=drawn.images[:, shot:], classes=drawn.classes
    )


def rotate(images: Tensor, quarter_turns: int) -> Tensor:
    """Turn images anticlockwise by ``quarter_turns`` times 90 degrees.

    Args:
        images: ``(..., H, W)``.
        quarter_turns: Any integer; negative turns are clockwise.

    Returns:
        Images of the same shape, or with height and width exchanged.

    Raises:
        UserError: If the images have fewer than two dimensions, or the turns are no whole number.
    """
    check_tensor("images", images)
    if images.ndim < 2:
        raise UserError(f"images: expected shape (..., H, W), got {tuple(images.shape)}")
    check_whole("quarter_turns", quarter_turns)
    return torch.rot90(images, quarter_turns, dims=(-2, -1))


def dequantise(images: Tensor, generator: torch.Generator | None) -> Tensor:
    """Turn 8-bit pixels into real numbers, each within its bin ``[pixel, pixel + 1)``.

    A density of the result, averaged over the noise, is a lower bound of the probability of the
    8-bit image (Theis et al. 2016), so nats of the two can be compared.

    Args:
        images: uint8, any shape.
        generator: Source of the uniform noise; ``None`` puts every pixel in the middle of its bin.

    Returns:
        float32 of the same shape, in ``[0, 256)``; :func:`quantise` takes it back exactly.

    Raises:
        UserError: If ``images`` are not uint8.

    Example:
        >>> dequantise(torch.tensor([0, 255], dtype=torch.uint8), None)
        tensor([  0.5000, 255.5000])
    """
    check_tensor("images", images)
    if images.dtype != torch.uint8:
        raise UserError(f"images: expected uint8 pixels, got {images.dtype}")
    pixels = images.float()
    if generator is None:
        return pixels + 0.5
    noise = uniform(images.shape, generator)
    # 255 + 0.99999994 rounds to 256 in float32. Between 128 and 256 neighbouring floats are 2**-16
    # apart, so noise on a grid of that pitch is added without rounding and stays inside its bin.
    noise = torch.floor(noise * 2**16) * 2**-16
    return pixels + noise.to(pixels.device)


def quantise(images: Tensor) -> Tensor:
    """Round real pixels down to the 8-bit bin they lie in, clamped to 0..255.

    Args:
        images: Floating point, any shape.

    Returns:
        uint8 of the same shape.

    Raises:
        UserError: If ``images`` are not floating point.
    """
    check_floating("images", images)
    return images.floor().clamp(0, 255).to(torch.uint8)


def _rotate_each(images: Tensor, turns: Tensor) -> Tensor:
    rotated = images.clone()
    for quarter_turns in range(1, 4):
        chosen = turns == quarter_turns
        rotated[chosen] = rotate(images[chosen], quarter_turns)
    return rotated


def _check_class_sizes(dataset: LabelledImages, size: int) -> None:
    smallest = int(dataset.class_sizes.argmin())
    available = int(dataset.class_sizes[smallest])
    if available < size:
        raise UserError(
            f"size: class {dataset.class_names[smallest]!r} of {dataset.name}/{dataset.split} has "
            f"{available} image{'s' * (available > 1)}, too few for sets of {size}"
        )


def check_square(images: Tensor) -> None:
    """Raise if images ``(..., H, W)`` that are to be rotated by 90 degrees are not square.

    Raises:
        UserError: With their height and width.
    """
    height, width = images.shape[-2:]
    if height != width:
        raise UserError(f"rotations: expected square images, got {height} x {width} pixels")
