"""Conditional Gaussianisation of pixels, one lattice after the other from coarse to fine."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle

from bruno.errors import UserError
from bruno.flows.bijection import FACTORY_KWARGS
from bruno.flows.conditioners import ResidualConditioner, data_dependent_initialisation
from bruno.flows.preprocessing import LEVELS, Cdf, PixelGaussianisation, check_pixels

# Mixing weight of the marginal: bounds the cost of a pixel to 9 nats above its marginal, and costs
# an image of ordinary pixels less than a tenth of a nat.
_LEAST_SHARE = 1e-4

# Learnt features of a grey level, beside its value and whether it is black.
_LEVEL_FEATURES = 8

# Positions closer to the end of a level, or probabilities closer to the end of a group, are moved
# inside: rounding across the end would change the level, which is an input of later networks.
_LEVEL_MARGIN = 1e-6
_GROUP_MARGIN = 5e-7


class LatticeGaussianisation(PixelGaussianisation):
    r"""Give every pixel a standard normal distribution *given the pixels of coarser lattices*.

    The pixels are divided among nested lattices, as in the parallel multiscale ordering of Reed et
    al. (*Parallel Multiscale Autoregressive Density Estimation*, ICML 2017, section 3): every
    fourth one along each axis first, then, at each halving of the distance, the centres of the
    squares between them, then the remaining pixels. From all coarser pixels a network predicts the
    probabilities :math:`p_k` of groups ``k`` of neighbouring grey levels; within a group the
    marginal distribution holds. The conditional distribution function is then piecewise linear in
    the marginal one (Müller et al., *Neural Importance Sampling*, 2019, section 4.2) and
    :math:`z = \Phi^{-1}(F(x \mid \text{coarser}))`.

    Dequantisation noise, empty paper and the edges of strokes become exactly Gaussian, which
    affine couplings cannot achieve. All lattices are computed at once from data to latent, and one
    after the other (five for two halvings) from latent to data. The latent is float64 whatever the
    parameters are: the inputs of the networks are whole grey levels, which must be recovered
    exactly.

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

    latent_is_double = True
    is_continuous = False
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
        levels = torch.arange(LEVELS, device=FACTORY_KWARGS["device"])
        self.register_buffer("group_of_level", levels * groups // LEVELS)
        shape = (channels * groups, height // side, width // side)
        self.coarsest = nn.Parameter(torch.zeros(shape, **FACTORY_KWARGS))

        # Frequent levels (black, white, half covered) differ in meaning from their neighbours.
        self.features = nn.Parameter(0.1 * torch.randn(LEVELS, _LEVEL_FEATURES, **FACTORY_KWARGS))

        def conditioner(known: int, moved: int, filters: int) -> ResidualConditioner:
            return ResidualConditioner(
                2 + (2 + _LEVEL_FEATURES) * known * channels,
                moved * channels * groups,
                filters,
                residual_blocks,
                context_dim,
            )

        self.centres = nn.ModuleList(conditioner(1, 1, width) for width in filters)
        self.others = nn.ModuleList(conditioner(2, 2, width) for width in filters)

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Count grey levels and standardise hidden activations on a batch, in place.

        Args:
            x: A batch of data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, of the same shape.
        """
        with data_dependent_initialisation(self):
            return super().initialise(x, context)

    def fit(self, x: Tensor) -> None:
        """Take probabilities of grey levels from pixels, and groups of about equal probability."""
        super().fit(x)
        self.group_of_level.copy_(group_levels(self.mass, self.groups))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map pixels to the real line.

        Args:
            x: Data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
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
                logits = self._coarsest_logits(x)
                return self._select(self._probabilities(logits, groups), here, groups)
            _, right, below, centre = _deal(here)
            first, _, _, diagonal = _deal(level[..., ::step, ::step])
            logits = self.centres[halving](self._inputs(first), context)
            of_centre = self._select(self._probabilities(logits, groups), centre, groups)
            logits = self.others[halving](self._inputs(first, diagonal), context)
            others = torch.cat([right, below], 1)
            of_others = self._select(self._probabilities(logits, groups), others, groups)
            of_right, of_below = of_others.chunk(2, dim=2)
            return _gather(shares(halving + 1), of_right, of_below, of_centre)

        conditional = Cdf(*shares(0))
        position = (wide - level).clamp(_LEVEL_MARGIN, 1 - _LEVEL_MARGIN)
        start = table.below[level] - groups.below[group]
        within = (start + table.mass[level] * position) / groups.mass[group]
        margin = (_GROUP_MARGIN / conditional.mass.detach()).clamp_max(0.25)
        within = within.clamp(margin, 1 - margin)
        z, log_det = self._to_normal(within, conditional, torch.float64)
        inner = (table.mass[level] / groups.mass[group]).log().flatten(1).sum(1)
        return z, log_det + inner

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map the real line to pixels, one lattice after the other.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        table = self._distribution()
        groups = self._group_distribution(table)
        wide = z.double()

        def pixels(halving: int) -> tuple[Tensor, Tensor]:
            """Return grey levels, and positions in them and log-densities, on a lattice."""
            step = 2**halving
            here = wide[..., ::step, ::step]
            if halving == len(self.centres):
                return self._invert(here, self._coarsest_logits(z), table, groups)
            _, right, below, centre = _deal(here)
            first = pixels(halving + 1)
            logits = self.centres[halving](self._inputs(first[0]), context)
            diagonal = self._invert(centre, logits, table, groups)
            logits = self.others[halving](self._inputs(first[0], diagonal[0]), context)
            others = self._invert(torch.cat([right, below], 1), logits, table, groups)
            return (
                _gather(first[0], *others[0].chunk(2, dim=1), diagonal[0]),
                _gather(first[1], *others[1].chunk(2, dim=2), diagonal[1]),
            )

        level, (position, log_density) = pixels(0)
        return level + position, -log_density.flatten(1).sum(1)

    def _inputs(self, *levels: Tensor) -> Tensor:
        """Return the inputs of a network: grey levels, their learnt features, and positions."""
        level = torch.cat(levels, 1)
        height, width = level.shape[-2:]
        dtype, device = self.features.dtype, level.device
        rows = torch.linspace(-1, 1, height, dtype=dtype, device=device)
        columns = torch.linspace(-1, 1, width, dtype=dtype, device=device)
        where = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(
            level.shape[0], -1, -1, -1
        )
        features = nn.functional.embedding(level, self.features).movedim(-1, 2).flatten(1, 2)
        grey = level.to(dtype) / (LEVELS / 2) - 1
        return torch.cat([grey, (level == 0).to(dtype), features, where], 1)

    def _coarsest_logits(self, like: Tensor) -> Tensor:
        return self.coarsest.expand(like.shape[0], -1, -1, -1)

    def _group_distribution(self, table: Cdf) -> Cdf:
        """Return the marginal share of every group of levels."""
        mass = torch.zeros_like(table.mass[: self.groups])
        mass = mass.index_add(0, self.group_of_level, table.mass)
        return Cdf(mass, mass.cumsum(0) - mass, mass.flip(0).cumsum(0).flip(0) - mass)

    def _probabilities(self, logits: Tensor, groups: Cdf) -> Tensor:
        """Return the probabilities of groups, ``(B, H, W, pixels, groups)``."""
        # Under autocast the network computes in half precision; probabilities never do.
        logits = logits.permute(0, 2, 3, 1).to(self.coarsest.dtype).unflatten(-1, (-1, self.groups))
        return (logits + groups.mass.to(logits.dtype).log()).softmax(-1)

    def _select(self, probabilities: Tensor, group: Tensor, groups: Cdf) -> Tensor:
        """Return the shares of given groups ``(B, pixels, H, W)``, stacked."""
        index = group.permute(0, 2, 3, 1).unsqueeze(-1)
        is_below = torch.arange(self.groups, device=group.device) < index
        mass = probabilities.gather(-1, index).squeeze(-1).permute(0, 3, 1, 2)
        below = (probabilities * is_below).sum(-1).permute(0, 3, 1, 2)
        mass = _never_zero(mass.double(), groups.mass[group])
        below = _never_zero(below.double(), groups.below[group])
        return torch.stack([mass, below, 1 - below - mass])

    def _invert(self, z: Tensor, logits: Tensor, table: Cdf, groups: Cdf) -> tuple[Tensor, Tensor]:
        """Return grey levels, and positions in them and log-densities, stacked."""
        lower, upper = self._from_normal(z)
        probabilities = self._probabilities(logits, groups)
        shares = _never_zero(probabilities.detach().double(), groups.mass)
        ends = shares.cumsum(-1)[..., :-1].permute(0, 3, 4, 1, 2)
        group = (ends <= lower.detach().unsqueeze(2)).sum(2)
        share = Cdf(*self._select(probabilities, group, groups))
        within = groups.below[group] + groups.mass[group] * share.inside(lower, upper)
        level = torch.searchsorted(table.ends, within.detach().contiguous(), right=True)
        # Rounding may move a value across the end of its group.
        last = torch.searchsorted(self.group_of_level, group.contiguous(), right=True) - 1
        first = torch.searchsorted(self.group_of_level, group.contiguous())
        level = level.maximum(first).minimum(last)
        position = ((within - table.below[level]) / table.mass[level]).clamp(0, 1)
        density = share.mass * table.mass[level] / groups.mass[group]
        return level, torch.stack([position, self._log_densities(density, z)])


def _never_zero(share: Tensor, marginal: Tensor) -> Tensor:
    return (1 - _LEAST_SHARE) * share + _LEAST_SHARE * marginal


def group_levels(mass: Tensor, groups: int) -> Tensor:
    """Return the group of every grey level, ``(256,)``; a group is a run of neighbouring levels.

    The two neighbouring groups with the least total probability are merged until the number is
    reached, so a frequent level is a group of its own and rare levels share one.

    Args:
        mass: Probability of every grey level, ``(256,)``.
        groups: Number of groups.
    """
    starts = list(range(len(mass)))
    masses = mass.tolist()
    while len(starts) > groups:
        together = [a + b for a, b in pairwise(masses)]
        least = together.index(min(together))
        masses[least : least + 2] = [together[least]]
        del starts[least + 1]
    first = torch.zeros_like(mass, dtype=torch.long)
    first[starts[1:]] = 1
    return first.cumsum(0)


def _deal(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Deal the pixels of 2×2 squares out: top left, top right, bottom left, bottom right."""
    return (
        image[..., ::2, ::2],
        image[..., ::2, 1::2],
        image[..., 1::2, ::2],
        image[..., 1::2, 1::2],
    )


def _gather(*parts: Tensor) -> Tensor:
    """Put four parts, each ``(..., C, H, W)``, together again."""
    return pixel_shuffle(torch.stack(parts, -3).flatten(-4, -3), 2)
