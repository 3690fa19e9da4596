r"""Exact factorisation of images into block sums, and pixels conditional on their block sums.

The integer grey levels of a 2×2 block are determined by their sum and any three of them, and the
sums of four such blocks by the sum over all four and three partial sums. On dequantised pixels
this is a bijection with determinant 1: each integer carries the dequantisation noise of one pixel.
With the sums :math:`c` as the code of an image,

.. math:: \log p(x_1..x_n) = \log p(c_1..c_n) + \sum_i \log p(x_i \mid c_i)

where pixels given their code do not depend on the other elements. The predictive density then
depends on the observed set only through the codes, and so do class posteriors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from bruno.errors import UserError
from bruno.flows.bijection import FACTORY_KWARGS, Bijection
from bruno.flows.count_tables import CountTables, integer_shares
from bruno.flows.pixels_given_sums import PixelsGivenSums
from bruno.flows.preprocessing import LEVELS, Cdf, NormalScores, check_pixels

# Positions within a grey level, and probabilities within the interval of an integer, keep this
# distance from the ends: rounding across an end would change an integer on which others depend.
_POSITION_MARGIN, _PROBABILITY_MARGIN = 1e-6, 5e-7
_PIXELS_LEFT_OUT: ContextVar[Literal["none", "frozen", "all"]] = ContextVar(
    "_PIXELS_LEFT_OUT", default="none"
)
_SUM_BINS, _SPLIT_BINS, _SPLIT_TABLES = 96, 48, 16
# Largest sum of 4x4 pixels, and largest partial sums: upper half, left part of each half.
_MOST = 16 * (LEVELS - 1)
_MOST_OF_PARTS = (_MOST // 2, _MOST // 4, _MOST // 4)


class BlockSums(NormalScores):
    r"""Bijection from images to normal scores of block sums and of pixels given the sums.

    The code consists of four sums for every 4×4 block: all pixels, the upper half, and the left
    part of each half. Each is mapped to a normal score through its distribution conditional on the
    sum it is part of (:class:`~bruno.flows.count_tables.CountTables`; total sums have one table for
    every position), and the scores are mapped by ``code``. Three pixels of each 2×2 block are
    mapped to normal scores conditional on the code and on earlier pixels
    (:class:`~bruno.flows.pixels_given_sums.PixelsGivenSums`).

    Maps ``(B, C, H, W)`` to ``(B, C·H·W)``; the first quarter of the latent is the code. The latent
    is float64 for parameters of any dtype, since the inverse must recover integers exactly.

    Args:
        code: Flow on the scores of the code, from ``(B, 4C, H/4, W/4)`` (total, upper half, upper
            left and lower left quarter) to ``(B, C·H·W/4)``.
        event_shape: Shape of an image, ``(C, H, W)``, height and width multiples of 4.
        pixel_units: Width of the network for pixels given sums.
        context_dim: Size of the context of that network; 0 for none.
        alpha: How far probabilities are kept from 0 and 1, together.

    Raises:
        UserError: If a pixel is not finite or lies outside [0, 256].
    """

    code: Bijection
    places: Tensor
    ends_of_tables: Tensor
    latent_is_double = True
    is_continuous = False
    initialisation_images = 2000

    def __init__(
        self,
        code: Bijection,
        event_shape: Sequence[int],
        *,
        pixel_units: int,
        context_dim: int = 0,
        alpha: float = 1e-5,
    ) -> None:
        super().__init__(alpha)
        channels, height, width = event_shape
        blocks = (channels, height // 4, width // 4)
        self.code = code
        self.code_dim = 4 * blocks[0] * blocks[1] * blocks[2]
        places = torch.arange(self.code_dim // 4, device=FACTORY_KWARGS["device"]).view(blocks)
        self.register_buffer("places", places, persistent=False)
        ends = torch.tensor(_ENDS_OF_TABLES, device=FACTORY_KWARGS["device"], dtype=torch.int64)
        self.register_buffer("ends_of_tables", ends, persistent=False)
        self.sums = CountTables(len(places.flatten()), _SUM_BINS)
        self.splits = nn.ModuleList(CountTables(_SPLIT_TABLES, _SPLIT_BINS) for _ in range(3))
        self.pixels = PixelsGivenSums(
            channels, height // 2, width // 2, units=pixel_units, context_dim=context_dim
        )

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map pixels to the latent of the code and the normal scores of pixels given the code.

        Args:
            x: Data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        level, position = _levels(x)
        scores, log_det = self._code_scores(level, position)
        code, of_code = self.code(scores, context)
        log_det = log_det + of_code
        # Compiled graphs cannot read context variables, and have the pixels.
        left_out = "none" if torch.compiler.is_compiling() else _PIXELS_LEFT_OUT.get()
        if left_out == "all" or (left_out == "frozen" and self.pixels.is_fixed):
            return code, log_det
        share = self.pixels(level, context)
        z, of_pixels = self._scores(_blocks(position)[:, :, 1:], share)
        return torch.cat([code, z.flatten(1)], 1), log_det + of_pixels

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the latent of the code and the normal scores of pixels back to pixels.

        Args:
            z: Latent, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        code, rest = z.double().split([self.code_dim, z.shape[1] - self.code_dim], 1)
        scores, of_code = self.code.inverse(code, context)
        sums, first, log_det = self._sums(scores)
        rest = rest.unflatten(1, (sums.shape[1], 3, *sums.shape[2:]))
        lower, upper = self._from_normal(rest)
        level, share = self.pixels.levels(sums, lower.detach(), upper.detach(), context)
        others = share.inside(lower, upper)
        log_det = log_det - self._log_densities(share.mass, rest).flatten(1).sum(1)
        position = pixel_shuffle(torch.cat([first.unsqueeze(2), others], 2).flatten(1, 2), 2)
        return level + position, log_det + of_code

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialise tables from counts of a batch, and the flow on the code from it, in place.

        Args:
            x: A batch of data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, ``(B, D)``.
        """
        level, position = _levels(x)
        total, parts = _pyramid(level)
        zero = torch.zeros_like(total)
        self.sums.fit(self.places.expand_as(total), total, zero, zero + _MOST)
        for index, part in enumerate(parts):
            whole = _whole(index, total, parts)
            self._split(index).fit(self._table_of(index, whole), part, *_range(index, whole))
        self.pixels.fit(level)
        self.code.initialise(self._code_scores(level, position)[0], context)
        return super().initialise(x, context)

    def _code_scores(self, level: Tensor, position: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normal scores of the code, ``(B, 4C, H/4, W/4)``, and the log-determinant."""
        share = self._code_shares(*_pyramid(level))
        z, log_det = self._scores(_blocks(_blocks(position)[:, :, 0]), share)
        return z.flatten(1, 2), log_det

    def _sums(self, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return 2×2 block sums, positions within their first levels, and the log-determinant."""
        scores = scores.double().unflatten(1, (-1, 4))
        lower, upper = self._from_normal(scores)
        below, above = lower.detach().unbind(2), upper.detach().unbind(2)
        zero = torch.zeros_like(below[0], dtype=torch.long)
        place = self.places.expand_as(zero)
        total = self.sums.numbers(place, below[0], above[0], zero, zero + _MOST)
        parts: list[Tensor] = []
        for index in range(len(_MOST_OF_PARTS)):
            whole = _whole(index, total, parts)
            parts.append(
                self._split(index).numbers(
                    self._table_of(index, whole),
                    below[index + 1],
                    above[index + 1],
                    *_range(index, whole),
                )
            )
        share = self._code_shares(total, parts)
        log_det = -self._log_densities(share.mass, scores).flatten(1).sum(1)
        top, upper_left, lower_left = parts
        of_blocks = (upper_left, top - upper_left, lower_left, total - top - lower_left)
        sums = pixel_shuffle(torch.stack(of_blocks, 2).flatten(1, 2), 2)
        position = pixel_shuffle(share.inside(lower, upper).flatten(1, 2), 2)
        return sums, position, log_det

    def _code_shares(self, total: Tensor, parts: Sequence[Tensor]) -> Cdf:
        """Return probabilities of totals and partial sums, each ``(B, C, 4, H/4, W/4)``."""
        zero = torch.zeros_like(total)
        place = self.places.expand_as(total)
        of_total = integer_shares(self.sums.logits, place, total, zero, zero + _MOST)
        wholes = [_whole(index, total, parts) for index in range(len(parts))]
        # All partial sums at once, from the tables of all of them below each other.
        tables = torch.cat([self._split(index).logits for index in range(len(parts))])
        table = [self._table_of(i, whole) + i * _SPLIT_TABLES for i, whole in enumerate(wholes)]
        spans = [_range(index, whole) for index, whole in enumerate(wholes)]
        columns = (table, parts, *zip(*spans, strict=True))
        of_parts = integer_shares(tables, *(torch.stack(list(column), 2) for column in columns))
        pairs = zip(of_total, of_parts, strict=True)
        return Cdf(*(torch.cat([first.unsqueeze(2), others], 2) for first, others in pairs))

    def _table_of(self, index: int, whole: Tensor) -> Tensor:
        """Return the index of the table of a partial sum: two tables per doubling of the whole."""
        return torch.searchsorted(self.ends_of_tables[index], whole)

    def _split(self, index: int) -> CountTables:
        return cast("CountTables", self.splits[index])

    def _scores(self, position: Tensor, share: Cdf) -> tuple[Tensor, Tensor]:
        """Return normal scores of positions within integers of given probability."""
        margin = (_PROBABILITY_MARGIN / share.mass.detach()).clamp(max=0.25)
        return self._to_normal(position.clamp(margin, 1 - margin), share, torch.float64)


def take_pixels(flow: nn.Module, other: nn.Module, name: str) -> None:
    """Copy the network for pixels given sums from another flow and freeze the copy, in place.

    Args:
        flow: A flow that contains a :class:`BlockSums`.
        other: A flow that contains one of the same sizes.
        name: Name of ``other`` in errors.

    Raises:
        UserError: If one of the flows contains no :class:`BlockSums`, or their sizes differ.
    """
    ours, theirs = (
        next((layer.pixels for layer in part.modules() if isinstance(layer, BlockSums)), None)
        for part in (flow, other)
    )
    if ours is None or theirs is None:
        whose = "the model to train" if ours is None else name
        raise UserError(f"pixels_from: expected flows of sums of blocks, and {whose} has none")
    shapes = [
        {key: tuple(tensor.shape) for key, tensor in part.state_dict().items()}
        for part in (ours, theirs)
    ]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"pixels_from: expected a network for {ours.channels} x {2 * len(ours.rows)} x "
            f"{2 * len(ours.columns)} pixels with pixel_units {ours.rows.shape[1]}, and {name} has "
            f"one for {theirs.channels} x {2 * len(theirs.rows)} x {2 * len(theirs.columns)} with "
            f"{theirs.rows.shape[1]}"
        )
    ours.load_state_dict(theirs.state_dict())
    ours.requires_grad_(requires_grad=False)


@contextmanager
def code_only(*, frozen_pixels: bool = False) -> Iterator[None]:
    """Context manager that skips pixels given sums, in this thread.

    Inside it, latent vectors and log-determinants are those of the code alone. Gradients with
    respect to all other parameters equal those of the whole model if its process has zero
    correlation in the skipped dimensions.

    Args:
        frozen_pixels: Skip the pixels only where their network is frozen.
    """
    token = _PIXELS_LEFT_OUT.set("frozen" if frozen_pixels else "all")
    try:
        yield
    finally:
        _PIXELS_LEFT_OUT.reset(token)


def _levels(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the grey levels of dequantised pixels, and positions within them."""
    check_pixels(x)
    wide = x.double()
    level = wide.detach().long().clamp_max(LEVELS - 1)
    return level, (wide - level).clamp(_POSITION_MARGIN, 1 - _POSITION_MARGIN)


def _blocks(image: Tensor) -> Tensor:
    """Return the four pixels of every 2×2 block, ``(B, C, H, W) -> (B, C, 4, H/2, W/2)``."""
    blocks: Tensor = pixel_unshuffle(image, 2).unflatten(1, (-1, 4))
    return blocks


def _pyramid(level: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Return sums of 4×4 blocks, and those of the upper half and of the left part of each half."""
    upper_left, upper_right, lower_left, lower_right = _blocks(_blocks(level).sum(2)).unbind(2)
    top = upper_left + upper_right
    return top + lower_left + lower_right, [top, upper_left, lower_left]


def _whole(index: int, total: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """Return the sum that a partial sum of the code is part of."""
    if index == 0:
        return total
    return parts[0] if index == 1 else total - parts[0]


def _range(index: int, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Return the bounds of a partial sum: it and the remainder lie between 0 and their maxima."""
    most = _MOST_OF_PARTS[index]
    return (whole - most).clamp(min=0), whole.clamp(max=most)


def _ends_of_tables(most: int) -> list[int]:
    """Return the largest sum of every table but the last, for parts of at most ``most``.

    Table ``k`` ends at ``2 · most · 2^((k - 15) / 2)``, rounded down. Whole numbers choose the same
    table in every runtime; logarithms are rounded differently next to powers of two.
    """
    return [math.isqrt((2 * most) ** 2 >> _SPLIT_TABLES - 1 - k) for k in range(_SPLIT_TABLES - 1)]


_ENDS_OF_TABLES = [_ends_of_tables(most) for most in _MOST_OF_PARTS]
