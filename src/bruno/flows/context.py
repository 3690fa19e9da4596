"""How the context of an element enters a flow: encoded once for all couplings, or as a rotation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bruno.flows.bijection import FACTORY_KWARGS, Bijection

_FREQUENCIES = 5
CONTEXT_UNITS = 32
"""Size of the encoded context that couplings receive."""


class EncodedContext(Bijection):
    """An inner bijection that receives an encoding of some entries of the context.

    The encoder is a linear map and a leaky ReLU, shared by all couplings inside (Korshunova et al.,
    *Conditional BRUNO*, 2018).

    Args:
        entries: The entries of the context that are encoded. Without any, the inner bijection
            receives no context.
        inner: A bijection whose context has size :data:`CONTEXT_UNITS`, or 0 without entries.
    """

    def __init__(self, entries: Sequence[int], inner: Bijection) -> None:
        super().__init__()
        self.entries = list(entries)
        self.encoder = (
            nn.Sequential(
                nn.Linear(len(self.entries), CONTEXT_UNITS, **FACTORY_KWARGS), nn.LeakyReLU()
            )
            if self.entries
            else None
        )
        self.inner = inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply the inner bijection.

        Args:
            x: Data, ``(B, ...)``.
            context: Raw context of the elements, ``(B, context_dim)``.

        Returns:
            Latent ``(B, ...)`` and log-determinants ``(B,)``, in nats.
        """
        result: tuple[Tensor, Tensor] = self.inner(x, self._encoded(context))
        return result

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo the inner bijection.

        Args:
            z: Latent, ``(B, ...)``.
            context: Raw context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, ...)`` and log-determinants ``(B,)``, in nats.
        """
        return self.inner.inverse(z, self._encoded(context))

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialise the inner bijection on a batch, in place.

        Args:
            x: A batch of data, ``(B, ...)``.
            context: Raw context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, ``(B, ...)``.
        """
        return self.inner.initialise(x, self._encoded(context))

    def _encoded(self, context: Tensor | None) -> Tensor | None:
        if self.encoder is None:
            return None
        if context is None:
            raise ValueError("context: expected the context of every element, got none")
        encoded: Tensor = self.encoder(context[:, self.entries])
        return encoded


def dimensions_to_rotate(angles: int) -> int:
    """Return the number of dimensions at which each of several angles rotates a pair of its own."""
    return 2 * (_FREQUENCIES * (angles - 1) + 2)


class ContextRotation(Bijection):
    r"""Turn pairs of latent dimensions back by multiples of the angles in a context.

    Two views of one object get equal latent vectors if the features of the earlier layers rotate
    with the views, so only the rotating features are left to learn (Worrall et al., *Interpretable
    Transformations with Encoder-Decoder Networks*, ICCV 2017). Pair ``(a, b)`` of angle
    :math:`\theta` and frequency :math:`k` becomes

    .. math:: (a \cos k\theta + b \sin k\theta, \; b \cos k\theta - a \sin k\theta)

    with log-determinant 0. Neighbouring pairs cycle through the frequencies 0 to 4, for each angle
    in turn; the last of an odd number of dimensions stays. Angles have no other effect; all other
    context features reach the couplings.

    Args:
        dim: Dimensions of the vectors.
        positions: Where, in a context, the sine of each angle is; its cosine is the next entry.

    Example:
        >>> rotation = ContextRotation(4, [0])
        >>> quarter_turn = torch.tensor([[1.0, 0.0]])
        >>> z, log_det = rotation(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), quarter_turn)
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
        """Turn ``(B, D)`` vectors back by the angles of a context ``(B, context_dim)``.

        Args:
            x: Data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        return self._turned(x, context, -1), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Turn vectors by the angles of a context.

        Args:
            z: Latent, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        return self._turned(z, context, 1), z.new_zeros(z.shape[0])

    def _turned(self, x: Tensor, context: Tensor | None, direction: int) -> Tensor:
        if context is None:
            raise ValueError("context: expected the angles to rotate by, got none")
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
