"""Latent dimensions that are correlated within a set, and where in images they live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.evaluation.encoding import encode_dataset
from bruno.evaluation.streams import Stream
from bruno.model import Bruno
from bruno.processes import ExchangeableProcess, ExchangeableStudentT
from bruno.progress import ProgressCallback
from bruno.seeding import generator_for
from bruno.validation import check_whole

EPSILONS = (0.9, 0.5, 0.1, 0.01)
"""Thresholds of rho / v that dimensions are counted above."""

_CORRELATED = 0.1
_PATCHES = 7  # patches in a row and in a column of an image


@dataclass(frozen=True)
class CorrelationResult:
    r"""What the process has learnt, and where.

    Attributes:
        dataset: Data set and split of the images of :attr:`patches`.
        spectrum: :math:`\rho / v` of every latent dimension, descending.
        above: Number of dimensions above each threshold of :data:`EPSILONS`.
        degrees_of_freedom: The 10, 50 and 90 % quantiles of a Student-t process, or nothing.
        patches: For every patch of an image, how much an exchange of the patch moves the
            correlated dimensions, relative to the mean over patches; empty without any.
        other_patches: The same for the remaining dimensions.
        seed: Seed of the images.
    """

    dataset: str
    spectrum: tuple[float, ...]
    above: tuple[int, ...]
    degrees_of_freedom: tuple[float, ...]
    patches: tuple[tuple[float, ...], ...]
    other_patches: tuple[tuple[float, ...], ...]
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {**self.__dict__, "epsilons": list(EPSILONS)}

    def rows(self) -> list[list[str]]:
        """Return thresholds, the number of dimensions above and their share."""
        rows = [
            [f"rho / v > {epsilon:g}", f"{number}", f"{100 * number / len(self.spectrum):.1f}"]
            for epsilon, number in zip(EPSILONS, self.above, strict=True)
        ]
        if self.degrees_of_freedom:
            low, median, high = self.degrees_of_freedom
            text = f"{median:.0f} ({low:.0f} to {high:.0f})"
            rows.append(["degrees of freedom, median (10 to 90 %)", text, ""])
        return rows


@torch.no_grad()
def correlation(
    model: Bruno,
    dataset: LabelledImages,
    *,
    images: int = 32,
    seed: int = 0,
    progress: ProgressCallback | None = None,
) -> CorrelationResult:
    r"""Return the spectrum of correlations, and the parts of images that move correlated latents.

    For the latter a patch of an image is replaced by that of another image, and the root mean
    square of the change of the latent vector, in standard deviations, is taken over images: over
    the dimensions with :math:`\rho / v > 0.1`, which carry what a set has in common, and over the
    others.

    Args:
        model: The model.
        dataset: Images of classes it was not trained on.
        images: Number of images whose patches are exchanged.
        seed: Seed of these images.
        progress: Told the number of images encoded.

    Returns:
        Spectrum, counts and maps.

    Raises:
        UserError: If the number of images is below 1, or they do not fit the model.
    """
    check_whole("images", images, 1)
    process = model.process
    spectrum = process.correlation.double().cpu()
    correlated = spectrum > _CORRELATED
    degrees: tuple[float, ...] = ()
    if isinstance(process, ExchangeableStudentT):
        levels = torch.tensor([0.1, 0.5, 0.9], device="cpu", dtype=torch.float64)
        degrees = tuple(float(one) for one in process.df.cpu().quantile(levels))
    moved = _moved_by_patches(model, dataset, min(images, len(dataset)), seed, progress)
    maps = [
        _relative(moved[..., chosen]) if bool(chosen.any()) else ()
        for chosen in (correlated, ~correlated)
    ]
    return CorrelationResult(
        dataset=f"{dataset.name}/{dataset.split}",
        spectrum=tuple(round(float(one), 6) for one in spectrum.sort(descending=True).values),
        above=tuple(int(one) for one in correlated_dimensions(process, EPSILONS)),
        degrees_of_freedom=degrees,
        patches=maps[0],
        other_patches=maps[1],
        seed=seed,
    )


def _moved_by_patches(
    model: Bruno,
    dataset: LabelledImages,
    images: int,
    seed: int,
    progress: ProgressCallback | None,
) -> Tensor:
    """Return mean squared changes of latent dimensions, in variances, ``(rows, columns, D)``."""
    generator = generator_for(seed, Stream.CORRELATION_IMAGES)
    order = torch.randperm(len(dataset), generator=generator, device="cpu")
    rows, others = order[:images], order.roll(1)[:images]
    x, donors = dataset.images[rows], dataset.images[others]
    context = None if dataset.context is None else dataset.context[rows]
    before, _ = encode_dataset(model, x, generator=None, context=context)
    height, width = x.shape[-2:]
    patches = (min(_PATCHES, height), min(_PATCHES, width))
    tops, lefts = (
        torch.linspace(0, side, number + 1, device="cpu", dtype=torch.float64)
        .round()
        .long()
        .tolist()
        for side, number in zip((height, width), patches, strict=True)
    )
    result = torch.empty((*patches, model.process.dim), device="cpu", dtype=torch.float64)
    for i in range(patches[0]):
        for j in range(patches[1]):
            patch = (..., slice(tops[i], tops[i + 1]), slice(lefts[j], lefts[j + 1]))
            changed = x.clone()
            changed[patch] = donors[patch]
            after, _ = encode_dataset(model, changed, generator=None, context=context)
            moved = (after - before).double().square().mean(0) / model.process.variance
            result[i, j] = moved.cpu()
            if progress is not None:
                progress("exchanging patches", i * patches[1] + j + 1, patches[0] * patches[1])
    return result


def _relative(moved: Tensor) -> tuple[tuple[float, ...], ...]:
    """Return root mean squares over dimensions, relative to their mean over patches."""
    size = moved.mean(-1).sqrt()
    size = size / size.mean().clamp_min(1e-12)
    return tuple(tuple(round(float(one), 4) for one in row) for row in size)


@torch.no_grad()
def correlated_dimensions(
    process: ExchangeableProcess, epsilons: Tensor | Sequence[float]
) -> Tensor:
    r"""Count the latent dimensions whose correlation :math:`\rho / v` exceeds thresholds.

    The predictive depends on the set through these only (BRUNO paper, appendix).

    Args:
        process: The process.
        epsilons: Thresholds, shape ``(E,)``.

    Returns:
        Counts, int64 ``(E,)``, on the CPU.

    Example:
        >>> from bruno import ExchangeableGaussian
        >>> process = ExchangeableGaussian.from_parameters(torch.ones(3), torch.tensor([0, .1, .9]))
        >>> correlated_dimensions(process, [0.01, 0.5])
        tensor([2, 1])
    """
    thresholds = torch.as_tensor(epsilons, device="cpu", dtype=torch.float64)
    return (process.correlation.cpu() > thresholds.unsqueeze(-1)).sum(-1)
