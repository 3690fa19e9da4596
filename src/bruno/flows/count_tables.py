"""Learnt distributions of integers with known bounds."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from bruno.flows.bijection import FACTORY_KWARGS
from bruno.flows.preprocessing import Cdf

# Pseudo-observations of the pooled distribution that are added to the counts of every table.
_POOLED_COUNTS = 20.0
# Weight of a uniform distribution in a table that is fitted to counts: no entry is 0.
_EVEN_SHARE = 1e-3


class CountTables(nn.Module):
    """Distributions of an integer between a lower and an upper bound, one for each table.

    Each bound has a probability of its own, because black blocks and blocks that hold all the ink
    of a pair are frequent. Between the bounds the density is piecewise constant on bins of equal
    width, which scale with the distance of the bounds.

    Args:
        tables: Number of tables.
        bins: Number of bins between the bounds.
    """

    def __init__(self, tables: int, bins: int) -> None:
        super().__init__()
        self.bins = bins
        # Lower bound, upper bound, then the bins.
        self.logits = nn.Parameter(torch.zeros(tables, 2 + bins, **FACTORY_KWARGS))

    def numbers(
        self, table: Tensor, lower: Tensor, upper: Tensor, least: Tensor, greatest: Tensor
    ) -> Tensor:
        """Return the integers at given quantiles.

        Args:
            table: Index of the table of each integer, int64 ``(*B)``.
            lower: Lower-tail probabilities of the quantiles, ``(*B)``.
            upper: Upper-tail probabilities of the quantiles, ``(*B)``.
            least: Lower bounds, ``(*B)``.
            greatest: Upper bounds, ``(*B)``.

        Returns:
            The integers, int64 ``(*B)``.
        """
        probability = self.logits.detach().double().softmax(-1)
        inner, at_least, at_greatest = _parts(probability, table, least, greatest)
        between = (greatest - least - 1).clamp_min(1)
        within = ((lower - at_least) / inner.clamp_min(1e-300)).clamp(0, 1)
        inside, cumulative = _between_bounds(probability)
        cumulative = cumulative[table]
        index = (cumulative[..., 1:-1] <= within.unsqueeze(-1)).sum(-1)
        start = cumulative.gather(-1, index.unsqueeze(-1)).squeeze(-1)
        share = (within - start) / inside[table, index]
        place = ((index + share.clamp(0, 1)) / self.bins * between).long()
        place = place.clamp(min=0).minimum(between - 1)
        number = least + 1 + place
        number = torch.where(upper <= at_greatest, greatest, number)
        return torch.where(lower <= at_least, least, number)

    @torch.no_grad()
    def fit(self, table: Tensor, number: Tensor, least: Tensor, greatest: Tensor) -> None:
        """Fit the tables to counts of integers, shrunk towards the pooled counts, in place.

        Args:
            table: Index of the table of each integer, int64, broadcast to ``(*B)``.
            number: The integers, ``(*B)``.
            least: Lower bounds, broadcast to ``(*B)``.
            greatest: Upper bounds, broadcast to ``(*B)``.
        """
        known = greatest > least
        table, number = table.expand_as(number)[known], number[known]
        least, greatest = least.expand_as(known)[known], greatest.expand_as(known)[known]
        place = (number.double() - least - 0.5) / (greatest - least).clamp_min(2) * self.bins
        entry = 2 + place.long().clamp(0, self.bins - 1)
        entry = torch.where(number == greatest, 1, torch.where(number == least, 0, entry))
        counts = torch.zeros_like(self.logits, dtype=torch.float64)
        ones = torch.ones_like(entry, dtype=torch.float64)
        counts.index_put_((table, entry), ones, accumulate=True)
        pooled = counts.sum(0) + 1
        counts += _POOLED_COUNTS * pooled / pooled.sum()
        shares = counts / counts.sum(-1, keepdim=True)
        shares = (1 - _EVEN_SHARE) * shares + _EVEN_SHARE / shares.shape[-1]
        self.logits.copy_(shares.log())


def integer_shares(
    logits: Tensor, table: Tensor, number: Tensor, least: Tensor, greatest: Tensor
) -> Cdf:
    """Return the probability of integers, and of all below and above, in float64.

    Args:
        logits: Logits of the tables, ``(tables, 2 + bins)``: lower bound, upper bound, bins.
        table: Index of the table of each integer, int64 ``(*B)``.
        number: The integers, ``(*B)``.
        least: Lower bounds, ``(*B)``.
        greatest: Upper bounds, ``(*B)``.

    Returns:
        Probabilities, each ``(*B)``.
    """
    probability = logits.double().softmax(-1)
    inner, at_least, at_greatest = _parts(probability, table, least, greatest)
    between = (greatest - least - 1).clamp_min(1)
    place = (number - least - 1).clamp(min=0).minimum(between - 1)
    # The distribution function at both ends of the integer.
    inside, cumulative = _between_bounds(probability)
    position = torch.stack([place, place + 1]).double() / between * inside.shape[1]
    index = position.long().clamp_max(inside.shape[1] - 1)
    start, end = (cumulative[table, index] + (position - index) * inside[table, index]).unbind()
    is_least, is_greatest = number == least, number == greatest
    mass = torch.where(is_greatest, at_greatest, inner * (end - start))
    mass = torch.where(is_least, at_least, mass)
    below = torch.where(is_greatest, 1 - at_greatest, at_least + inner * start)
    below = torch.where(is_least, 0.0, below)
    above = torch.where(is_greatest, 0.0, 1 - below - mass)
    return Cdf(mass, below, above)


def _parts(
    probability: Tensor, table: Tensor, least: Tensor, greatest: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the probabilities between the bounds, at the lower and at the upper bound."""
    at_least, at_greatest = probability[:, :2][table].unbind(-1)
    span = greatest - least
    has_inner = span > 1
    ends = at_least + at_greatest
    inner = torch.where(has_inner, probability[:, 2:].sum(-1)[table], 0.0)
    at_least = torch.where(has_inner, at_least, at_least / ends)
    at_greatest = torch.where(has_inner, at_greatest, at_greatest / ends)
    at_least = torch.where(span == 0, 1.0, at_least)
    return inner, at_least, torch.where(span == 0, 0.0, at_greatest)


def _between_bounds(probability: Tensor) -> tuple[Tensor, Tensor]:
    """Return shares of bins between the bounds, and the distribution function at their edges."""
    inside = probability[:, 2:] / probability[:, 2:].sum(-1, keepdim=True)
    return inside, torch.cat([torch.zeros_like(inside[:, :1]), inside.cumsum(-1)], -1)
