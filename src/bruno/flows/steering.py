"""Latent pairs that turn with the angles an element is seen from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bruno.flows.bijection import FACTORY_KWARGS, Bijection

_FREQUENCIES = 5


def dimensions_to_steer(angles: int) -> int:
    """Return how many dimensions it takes until each of so many angles turns a pair of its own."""
    return 2 * (_FREQUENCIES * (angles - 1) + 2)


class Steering(Bijection):
    r"""Turn pairs of latent dimensions back by multiples of the angles in a context.

    Of two views of one object, the latent vectors then agree if those of the layers before are
    turned against each other as the views are: the label enters by what it means, and there is
    nothing about it to learn but which features turn (Worrall et al., *Interpretable
    Transformations with Encoder-Decoder Networks*, ICCV 2017). Pair ``(a, b)`` of angle
    :math:`\theta` and frequency :math:`k` becomes

    .. math:: (a \cos k\theta + b \sin k\theta, \; b \cos k\theta - a \sin k\theta)

    with log-determinant 0. The frequencies 0 to 4 go round over neighbouring pairs, for each angle
    in turn; the last of an odd number of dimensions stays. An angle changes nothing else: what
    else a label does must be told by other labels, which reach the couplings.

    Args:
        dim: Dimensions of the vectors.
        positions: Where, in a context, the sine of each angle is; its cosine is the next entry.

    Example:
        >>> steering = Steering(4, [0])
        >>> quarter_turn = torch.tensor([[1.0, 0.0]])
        >>> z, log_det = steering(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), quarter_turn)
        >>> z.round()
        tensor([[ 1.,  2.,  4., -3.]])
    """

    angle_of_pair: Tensor
    frequency: Tensor

    def __init__(self, dim: int, positions: Sequence[int]) -> None:
        super().__init__()
        pair = torch.arange(dim // 2, device=FACTORY_KWARGS["device"])
        self.positions = tuple(positions)
        self.register_buffer(
            "angle_of_pair", pair // _FREQUENCIES % len(self.positions), persistent=False
        )
        self.register_buffer("frequency", pair % _FREQUENCIES, persistent=False)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turn ``(B, D)`` vectors back by the angles of a context ``(B, context_dim)``."""
        return self._turned(x, context, -1), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turn vectors by the angles of a context."""
        return self._turned(z, context, 1), z.new_zeros(z.shape[0])

    def _turned(self, x: Tensor, context: Tensor | None, direction: int) -> Tensor:
        if context is None:
            raise ValueError("steering needs a context")
        sine = list(self.positions)
        cosine = [position + 1 for position in sine]
        theta = torch.atan2(context[:, sine], context[:, cosine]).to(x.dtype)
        phase = theta[:, self.angle_of_pair] * self.frequency * direction
        cos, sin = phase.cos(), phase.sin()
        paired = 2 * self.frequency.shape[0]
        a, b = x[:, 0:paired:2], x[:, 1:paired:2]
        turned = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(1)
        return torch.cat([turned, x[:, paired:]], 1)

    def extra_repr(self) -> str:
        """Return what ``repr`` shows."""
        return f"positions={self.positions}"
