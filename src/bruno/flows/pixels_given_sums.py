"""Autoregressive distribution of pixels conditional on the sums of 2×2 blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, gelu, pad, pixel_shuffle, pixel_unshuffle

from bruno.flows.bijection import FACTORY_KWARGS
from bruno.flows.preprocessing import LEVELS, Cdf
from bruno.validation import values_can_be_checked

_LEVEL_FEATURES = 8
# Receptive field in blocks: pixels of earlier blocks and sums of all blocks at most 2 away.
_REACH = 2
_EARLIER_BLOCKS = [
    (row, column)
    for row in range(-_REACH, 1)
    for column in range(-_REACH, _REACH + 1)
    if row < 0 or column < 0
]
_BLOCKS_AROUND = [
    (row, column) for row in range(-_REACH, _REACH + 1) for column in range(-_REACH, _REACH + 1)
]
Places = tuple[Tensor, ...]
"""Indices of blocks: of the image, the row and the column, each ``(N,)``."""
# Level that stands for a pixel that is not yet decoded.
_UNKNOWN = LEVELS
# Residual layers of the network.
_LAYERS = 2
# Weight of a uniform distribution over the possible levels: none costs much more than 13 nats.
_EVEN_SHARE = 5e-4


class PixelsGivenSums(nn.Module):
    r"""Distributions of the pixels of 2×2 blocks given all block sums and all earlier pixels.

    Blocks come in raster order. Inputs of the network are the pixels of earlier blocks and the sums
    of all blocks at most two blocks away, and the earlier pixels of the block itself. The fourth
    pixel of a block is the sum minus the other three. The remainder of the sum before a pixel
    bounds its level from above; the remainder minus the maximum of the later pixels bounds it from
    below. Logits are the sum of a score of the level and a score of the remainder after it, since
    levels that leave nothing, or all, to later pixels are the most frequent. The pixels of blocks
    whose sum is 0 or the maximum are certain and need no network. The map from pixels to normal
    scores is an autoregressive subset flow (Nielsen & Winther, *Closing the Dequantization Gap:
    PixelCNN as a Single-Layer Flow*, NeurIPS 2020).

    The density is computed for all blocks at once. The inverse takes ``W + 3 (H − 1)`` steps for
    ``(H, W)`` blocks, one for each diagonal of blocks that do not depend on each other.

    Args:
        channels: Channels of the image.
        height: Height of the image in blocks.
        width: Width of the image in blocks.
        units: Width of the network.
        context_dim: Size of the context; 0 for none.
    """

    def __init__(
        self, channels: int, height: int, width: int, *, units: int, context_dim: int = 0
    ) -> None:
        super().__init__()
        self.channels = channels
        # Levels get embeddings: black and white are frequent and unlike the levels next to them.
        features = 0.3 * torch.randn(LEVELS + 1, _LEVEL_FEATURES, **FACTORY_KWARGS)
        features[:LEVELS, 0] = torch.linspace(-1, 1, LEVELS, **FACTORY_KWARGS)
        features[:LEVELS, 1] = torch.arange(LEVELS, device=FACTORY_KWARGS["device"]) == 0
        self.features = nn.Parameter(features)
        earlier = 4 * channels * len(_EARLIER_BLOCKS) * _LEVEL_FEATURES
        around = 2 * channels * (2 * _REACH + 1) ** 2
        self.surroundings = nn.Linear(earlier + around, units, **FACTORY_KWARGS)
        self.rows = nn.Parameter(0.1 * torch.randn(height, units, **FACTORY_KWARGS))
        self.columns = nn.Parameter(0.1 * torch.randn(width, units, **FACTORY_KWARGS))
        self.context = (
            nn.Linear(context_dim, units, bias=False, **FACTORY_KWARGS) if context_dim else None
        )
        if self.context is not None:
            nn.init.zeros_(self.context.weight)
        own = (4 * channels + 1) * _LEVEL_FEATURES + 3 + 3 * channels
        self.own = nn.Linear(own, units, bias=False, **FACTORY_KWARGS)
        self.norms = nn.ModuleList(nn.LayerNorm(units, **FACTORY_KWARGS) for _ in range(_LAYERS))
        self.hidden = nn.ModuleList(
            nn.Linear(units, units, **FACTORY_KWARGS) for _ in range(_LAYERS)
        )
        self.last = nn.Linear(units, 2 * LEVELS, **FACTORY_KWARGS)
        with torch.no_grad():
            self.last.weight.mul_(0.1)

    @property
    def is_fixed(self) -> bool:
        """Whether all parameters are frozen."""
        return not any(parameter.requires_grad for parameter in self.parameters())

    def forward(self, level: Tensor, context: Tensor | None = None) -> Cdf:
        """Return the probabilities of the first three pixels of every block.

        Args:
            level: Grey levels ``(B, C, H, W)``, int64.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Probabilities in float64, each ``(B, C, 3, H/2, W/2)``.
        """
        pixels = _channels_last(pixel_unshuffle(level, 2))
        sums = pixels.unflatten(-1, (-1, 4)).sum(-1)
        places = _uncertain(sums)
        blocks, of_sums = pixels[places], sums[places]
        rows = self._surroundings(_padded(pixels), sums, places, context)
        shares = []
        for channel in range(self.channels):
            for index in range(3):
                left = of_sums[:, channel] - blocks[:, 4 * channel : 4 * channel + index].sum(1)
                distribution = self._distribution(rows, blocks, channel, index, left)
                shares.append(distribution.select(blocks[:, 4 * channel + index]))
        return _everywhere(shares, places, sums.shape)

    def levels(
        self, sums: Tensor, lower: Tensor, upper: Tensor, context: Tensor | None = None
    ) -> tuple[Tensor, Cdf]:
        """Return the pixels at given quantiles, and their probabilities.

        Args:
            sums: Block sums, ``(B, C, H, W)`` for ``(H, W)`` blocks.
            lower: Lower-tail probability of the first three pixels of each block,
                ``(B, C, 3, H, W)``.
            upper: Upper-tail probability of the same, ``(B, C, 3, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Grey levels ``(B, C, 2H, 2W)``, and probabilities, each ``(B, C, 3, H, W)``.
        """
        sums, lower, upper = (_channels_last(part.flatten(1, -3)) for part in (sums, lower, upper))
        # Correct for blocks with sum 0 or the maximum; the others are overwritten below.
        padded = _padded((sums // 4).repeat_interleave(4, -1))
        done: list[tuple[list[Cdf], Places]] = []
        for places in _diagonals(_uncertain(sums), *sums.shape[1:3]):
            rows = self._surroundings(padded, sums, places, context)
            of_sums, below, above = sums[places], lower[places], upper[places]
            blocks = torch.zeros_like(of_sums).repeat_interleave(4, -1)
            shares = []
            for channel in range(self.channels):
                left = of_sums[:, channel]
                for index in range(3):
                    at = 3 * channel + index
                    distribution = self._distribution(rows, blocks, channel, index, left)
                    level = distribution.level_at(below[:, at], above[:, at])
                    shares.append(distribution.select(level))
                    blocks[:, 4 * channel + index] = level
                    left = left - level
                blocks[:, 4 * channel + 3] = left
            batch, row, column = places
            padded = padded.index_put((batch, row + _REACH, column + _REACH), blocks)
            done.append((shares, places))
        pixels = padded[:, _REACH:-_REACH, _REACH:-_REACH].movedim(-1, 1)
        shares = [
            Cdf(*map(torch.cat, zip(*parts, strict=True)))
            for parts in zip(*(shares for shares, _ in done), strict=True)
        ]
        places = tuple(map(torch.cat, zip(*(places for _, places in done), strict=True)))
        return pixel_shuffle(pixels, 2), _everywhere(shares, places, sums.shape)

    @torch.no_grad()
    def fit(self, level: Tensor) -> None:
        """Initialise the output bias with log-frequencies of grey levels, in place.

        Args:
            level: Grey levels ``(B, C, H, W)``, int64.
        """
        counts = torch.bincount(level.flatten(), minlength=LEVELS) + 1
        frequency = (counts.double() / counts.sum()).log().to(self.last.bias)
        self.last.bias[:LEVELS] = frequency - frequency.mean()

    def _surroundings(
        self, padded: Tensor, sums: Tensor, places: Places, context: Tensor | None
    ) -> Tensor:
        """Return the first layer on the neighbours of chosen blocks, ``(N, units)``."""
        batch, row, column = places
        near = _neighbours(padded, places, _EARLIER_BLOCKS)
        around = _neighbours(_padded(sums), places, _BLOCKS_AROUND)
        share = around.to(self.features.dtype) / (4 * (LEVELS - 1))
        inputs = torch.cat(
            [embedding(near, self.features).flatten(1), share.sqrt(), (around == 0).to(share)], 1
        )
        seen: Tensor = self.surroundings(inputs) + self.rows[row] + self.columns[column]
        if self.context is not None and context is not None:
            seen = seen + self.context(context)[batch]
        return seen

    def _distribution(
        self, rows: Tensor, blocks: Tensor, channel: int, index: int, left: Tensor
    ) -> _Levels:
        """Return the distribution of a pixel of every chosen block."""
        dtype = self.features.dtype
        known = torch.arange(blocks.shape[1], device=blocks.device) < 4 * channel + index
        seen = torch.where(known, blocks, _UNKNOWN)
        most = LEVELS - 1
        later = (3 - index) * most
        least, greatest = (left - later).clamp(min=0), left.clamp(max=most)
        place = torch.arange(3 * self.channels, device=left.device) == 3 * channel + index
        own = torch.cat(
            [
                embedding(seen, self.features).flatten(1),
                embedding(greatest, self.features),
                torch.stack([left, left.clamp(max=2 * most), least], 1).to(dtype) / most,
                place.to(dtype).expand(blocks.shape[0], -1),
            ],
            1,
        )
        hidden = gelu(rows + self.own(own))
        for norm, layer in zip(self.norms, self.hidden, strict=True):
            hidden = hidden + gelu(layer(norm(hidden)))
        of_level, of_remainder = self.last(hidden).split(LEVELS, 1)
        # Half the memory of int64: these are as large as the logits.
        levels = torch.arange(LEVELS, device=left.device, dtype=torch.int32)
        remainder = left.to(torch.int32).unsqueeze(1) - levels
        logits: Tensor = of_level + of_remainder.gather(1, remainder.clamp(0, most).long())
        logits = logits.masked_fill((remainder < 0) | (remainder > later), -torch.inf)
        return _Levels(logits.softmax(1), least, greatest)


class _Levels(NamedTuple):
    """Distributions of levels: of a network, mixed with a uniform one over the possible levels.

    Attributes:
        softmax: Probabilities by the network, ``(N, 256)``, 0 for impossible levels.
        least: Smallest possible levels, ``(N,)``.
        greatest: Greatest possible levels, ``(N,)``.
    """

    softmax: Tensor
    least: Tensor
    greatest: Tensor

    def select(self, level: Tensor) -> Cdf:
        """Return the probabilities of levels ``(N,)``, and of all below and above, in float64."""
        index = level.unsqueeze(1)
        levels = torch.arange(LEVELS, device=level.device)
        by_network = (
            self.softmax.gather(1, index).squeeze(1).double(),
            self.softmax.masked_fill(levels >= index, 0).sum(1, dtype=torch.float64),
            self.softmax.masked_fill(levels <= index, 0).sum(1, dtype=torch.float64),
        )
        counts = (torch.ones_like(level), level - self.least, self.greatest - level)
        each = _EVEN_SHARE / (self.greatest - self.least + 1).double()
        return Cdf(
            *(
                (1 - _EVEN_SHARE) * share + each * count
                for share, count in zip(by_network, counts, strict=True)
            )
        )

    def level_at(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Return the levels at quantiles.

        Args:
            lower: Lower-tail probabilities of the quantiles, ``(N,)``.
            upper: Upper-tail probabilities of the quantiles, ``(N,)``.
        """
        least, greatest = self.least.unsqueeze(1), self.greatest.unsqueeze(1)
        levels = torch.arange(LEVELS, device=lower.device)
        each = _EVEN_SHARE / (greatest - least + 1).double()
        even = torch.where((levels >= least) & (levels <= greatest), each, 0.0)
        probability = (1 - _EVEN_SHARE) * self.softmax.detach().double() + even
        # From the nearer end, where probabilities have all their digits.
        from_above = lower > upper
        probability = torch.where(from_above.unsqueeze(1), probability.flip(1), probability)
        beyond = (probability.cumsum(1) <= lower.minimum(upper).unsqueeze(1)).sum(1)
        level = torch.where(from_above, LEVELS - 1 - beyond, beyond)
        # Rounding at an end must not select a level of probability 0.
        return level.maximum(self.least).minimum(self.greatest)


def _channels_last(image: Tensor) -> Tensor:
    return image.movedim(1, -1)


def _padded(image: Tensor) -> Tensor:
    """Return blocks ``(B, H, W, C)`` padded with zeros by the receptive field."""
    return pad(image, (0, 0, _REACH, _REACH, _REACH, _REACH))


def _uncertain(sums: Tensor) -> Places:
    """Return the indices of blocks whose pixels the sums ``(B, H, W, C)`` do not determine.

    In drawings the sums determine three blocks in four: they are black or white throughout.
    """
    is_uncertain = torch.ones_like(sums[..., 0], dtype=torch.bool)
    if values_can_be_checked(sums):
        is_uncertain = ((sums > 0) & (sums < 4 * (LEVELS - 1))).any(-1)
        return is_uncertain.nonzero(as_tuple=True)
    ranges = [torch.arange(size, device=sums.device) for size in sums.shape[:3]]
    return tuple(axis.flatten() for axis in torch.meshgrid(*ranges, indexing="ij"))


def _neighbours(padded: Tensor, places: Places, offsets: list[tuple[int, int]]) -> Tensor:
    """Return the neighbours of blocks at given offsets, ``(N, offsets · C)``."""
    batch, row, column = (index.unsqueeze(1) for index in places)
    down, right = torch.tensor(offsets, device=row.device, dtype=torch.int64).unbind(1)
    return padded[batch, row + down + _REACH, column + right + _REACH].flatten(1)


def _diagonals(places: Places, height: int, width: int) -> Iterator[Places]:
    """Yield blocks of one diagonal after another; those of one do not depend on each other."""
    batch, row, column = places
    order = (_REACH + 1) * row + column
    for index in range((_REACH + 1) * (height - 1) + width):
        chosen = (order == index).nonzero().squeeze(1)
        yield batch[chosen], row[chosen], column[chosen]


def _everywhere(shares: Sequence[Cdf], places: Places, shape: Sequence[int]) -> Cdf:
    """Return probabilities at chosen blocks, and probability 1 elsewhere, ``(B, C, 3, H, W)``."""
    columns = []
    for certain, of_pixels in zip((1.0, 0.0, 0.0), zip(*shares, strict=True), strict=True):
        here = torch.stack(of_pixels, 1)
        whole = here.new_full((*shape[:3], here.shape[1]), certain).index_put(places, here)
        columns.append(whole.movedim(-1, 1).unflatten(1, (-1, 3)))
    return Cdf(*columns)
