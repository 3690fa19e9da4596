"""Pixels made normal one lattice after the other, each given all coarser ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from bruno.errors import UserError
from bruno.flows.conditioners import ResidualConditioner
from bruno.flows.preprocessing import LEVELS, PixelGaussianisation, Share, check_pixels

# Keeps every group of grey levels possible, whatever a conditioner says: no pixel costs more than
# 9 nats above its marginal, and an image of ordinary pixels pays less than a tenth of a nat.
_LEAST_SHARE = 1e-4


class LatticeGaussianisation(PixelGaussianisation):
    r"""Give every pixel a standard normal distribution *given the pixels of coarser lattices*.

    The pixels are dealt out to nested lattices, as in the parallel multiscale ordering of Reed et
    al. (*Parallel Multiscale Autoregressive Density Estimation*, ICML 2017, section 3): every
    fourth one along each axis first, then, at each halving of the distance, the centres of the
    squares between them, then what is left. A network sees all coarser pixels and returns the
    probabilities :math:`p_k` of groups ``k`` of neighbouring grey levels; within a group the
    marginal distribution holds. The conditional distribution function is then piecewise linear in
    the marginal one (Müller et al., *Neural Importance Sampling*, 2019, section 4.2) and
    :math:`z = \Phi^{-1}(F(x \mid \text{coarser}))`.

    Dequantisation noise, the black of empty paper and the edges of strokes come out straight,
    which affine couplings cannot achieve. All lattices are computed at once from data to latent,
    and one after the other (five for two halvings) from latent to data.

    Args:
        channels: Channels of the image.
        height: Its height; as often even under halving as there are ``filters``.
        width: Its width, likewise.
        filters: Width of the networks at each halving, finest first.
        residual_blocks: Residual blocks of each network.
        context_dim: Size of the context; 0 for none.
        groups: Groups of grey levels.

    Raises:
        UserError: If the size cannot be halved that often or a pixel is out of range.
    """

    group_of_level: Tensor

    def __init__(
        self,
        channels: int,
        height: int,
        width: int,
        filters: Sequence[int],
        residual_blocks: int,
        context_dim: int = 0,
        groups: int = 16,
    ) -> None:
        super().__init__()
        side = 2 ** len(filters)
        if height % side or width % side:
            raise UserError(
                f"event_shape: expected a height and width that {side} divides, got "
                f"({height}, {width})"
            )
        self.channels, self.groups = channels, groups
        self.register_buffer("group_of_level", torch.arange(LEVELS) * groups // LEVELS)
        self.coarsest = nn.Parameter(torch.zeros(channels * groups, height // side, width // side))

        def conditioner(known: int, moved: int, filters: int) -> ResidualConditioner:
            return ResidualConditioner(
                2 + 2 * known * channels,
                moved * channels * groups,
                filters,
                residual_blocks,
                context_dim,
            )

        self.centres = nn.ModuleList(conditioner(1, 1, width) for width in filters)
        self.others = nn.ModuleList(conditioner(2, 2, width) for width in filters)

    def fit(self, x: Tensor) -> None:
        """Take probabilities of grey levels from pixels, and groups of about equal probability."""
        super().fit(x)
        mass = self.mass.double()
        # Level 0 is a group of its own: on most images of this kind it is the background.
        ink = mass[1:].cumsum(0) - mass[1:] / 2
        of_ink = (ink / mass[1:].sum() * (self.groups - 1)).long().clamp_max(self.groups - 2)
        self.group_of_level[1:] = 1 + of_ink
        self.group_of_level[0] = 0

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map pixels to the real line."""
        check_pixels(x)
        wide = x.double()
        level = wide.detach().long().clamp_max(LEVELS - 1)
        table = self._distribution()
        groups = self._group_distribution(table)
        group = self.group_of_level[level]

        def shares(halving: int) -> Tensor:
            """Return the shares of the groups on the lattice of distance 2^halving, stacked."""
            step = 2**halving
            here = group[..., ::step, ::step]
            if halving == len(self.centres):
                return self._select(self._coarsest_logits(x), here, groups)
            _, right, below, centre = _deal(here)
            first, _, _, diagonal = _deal(x[..., ::step, ::step])
            centre_logits, others_logits = self.centres[halving], self.others[halving]
            of_centre = self._select(centre_logits(self._see(first), context), centre, groups)
            of_others = self._select(
                others_logits(self._see(first, diagonal), context),
                torch.cat([right, below], 1),
                groups,
            )
            of_right, of_below = of_others.chunk(2, dim=2)
            return _gather(shares(halving + 1), of_right, of_below, of_centre)

        conditional = Share(*shares(0).double())
        start = table.below[level] - groups.below[group]
        within = (start + table.mass[level] * (wide - level)) / groups.mass[group]
        z, log_det = self._to_normal(within, conditional, x.dtype)
        inner = (table.mass[level] / groups.mass[group]).log().flatten(1).sum(1)
        return z, log_det + inner.to(x.dtype)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the real line to pixels, one lattice after the other."""
        table = self._distribution()
        groups = self._group_distribution(table)
        wide = z.double()

        def pixels(halving: int) -> Tensor:
            """Return pixels and log-densities on the lattice of distance 2^halving, stacked."""
            step = 2**halving
            here = wide[..., ::step, ::step]
            if halving == len(self.centres):
                return self._invert(here, self._coarsest_logits(z), table, groups)
            _, right, below, centre = _deal(here)
            first = pixels(halving + 1)
            seen = first[0].to(z.dtype)
            logits = self.centres[halving](self._see(seen), context)
            diagonal = self._invert(centre, logits, table, groups)
            logits = self.others[halving](self._see(seen, diagonal[0].to(z.dtype)), context)
            others = self._invert(torch.cat([right, below], 1), logits, table, groups)
            return _gather(first, *others.chunk(2, dim=2), diagonal)

        x, log_density = pixels(0)
        return x.to(z.dtype), -log_density.flatten(1).sum(1).to(z.dtype)

    def _see(self, *pixels: Tensor) -> Tensor:
        """Return what a network sees: pixels, which of them are black, and where they are.

        All of it is continuous in the pixels: rounding must not change what finer ones are given.
        """
        seen = torch.cat(pixels, 1)
        height, width = seen.shape[-2:]
        rows = torch.linspace(-1, 1, height, dtype=seen.dtype, device=seen.device)
        columns = torch.linspace(-1, 1, width, dtype=seen.dtype, device=seen.device)
        where = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(
            len(seen), -1, -1, -1
        )
        # Noise keeps a black pixel below 1.
        return torch.cat([(seen - 0.5) / (LEVELS / 2) - 1, (2 - seen).clamp(0, 1), where], 1)

    def _coarsest_logits(self, like: Tensor) -> Tensor:
        return self.coarsest.expand(like.shape[0], -1, -1, -1)

    def _group_distribution(self, table: Share) -> Share:
        """Return the marginal share of every group of levels."""
        mass = torch.zeros_like(table.mass[: self.groups])
        mass = mass.index_add(0, self.group_of_level, table.mass)
        return Share(mass, mass.cumsum(0) - mass, mass.flip(0).cumsum(0).flip(0) - mass)

    def _probabilities(self, logits: Tensor, groups: Share) -> Tensor:
        """Return the probabilities of groups, ``(B, pixels, groups, H, W)``."""
        # Under autocast the network computes in half precision; probabilities never do.
        logits = logits.to(self.coarsest.dtype).unflatten(1, (-1, self.groups))
        marginal = groups.mass.to(logits.dtype).view(-1, 1, 1)
        return (logits + marginal.log()).softmax(2) * (1 - _LEAST_SHARE) + _LEAST_SHARE * marginal

    def _select(self, logits: Tensor, group: Tensor, groups: Share) -> Tensor:
        """Return the shares of given groups, stacked: ``(3, B, pixels, H, W)``."""
        probabilities = self._probabilities(logits, groups)
        index = torch.arange(self.groups, device=group.device).view(-1, 1, 1)
        group = group.unsqueeze(2)
        zero = probabilities.new_zeros(())
        return torch.stack(
            [
                probabilities.gather(2, group).squeeze(2),
                torch.where(index < group, probabilities, zero).sum(2),
                torch.where(index > group, probabilities, zero).sum(2),
            ]
        )

    def _invert(self, z: Tensor, logits: Tensor, table: Share, groups: Share) -> Tensor:
        """Return the pixels of latent values and their log-densities, stacked."""
        lower, upper = self._from_normal(z)
        probabilities = self._probabilities(logits, groups)
        ends = probabilities.detach().double().cumsum(2)[:, :, :-1]
        group = (ends <= lower.detach().unsqueeze(2)).sum(2)
        share = Share(*self._select(logits, group, groups).double())
        within = groups.below[group] + groups.mass[group] * share.inside(lower, upper)
        level = torch.searchsorted(table.ends, within.detach().contiguous(), right=True)
        # Rounding may carry a value over the end of its group.
        last = torch.searchsorted(self.group_of_level, group.contiguous(), right=True) - 1
        first = torch.searchsorted(self.group_of_level, group.contiguous())
        level = level.maximum(first).minimum(last)
        x = level + ((within - table.below[level]) / table.mass[level]).clamp(0, 1)
        density = share.mass * table.mass[level] / groups.mass[group]
        return torch.stack([x, self._log_densities(density, z)])


def _deal(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Deal the pixels of 2×2 squares out: top left, top right, bottom left, bottom right."""
    return (
        image[..., ::2, ::2],
        image[..., ::2, 1::2],
        image[..., 1::2, ::2],
        image[..., 1::2, 1::2],
    )


def _gather(*parts: Tensor) -> Tensor:
    """Put four parts, each ``(k, B, C, H, W)``, together again."""
    return pixel_shuffle(torch.stack(parts, 3).flatten(2, 3), 2)
