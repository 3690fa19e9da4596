"""Bijections that permute dimensions, and bijections composed of others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from bruno.flows.bijection import Bijection


class Squeeze(Bijection):
    """Trade 2×2 pixels for 4 channels: ``(B, C, H, W) -> (B, 4C, H/2, W/2)``."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the squeezed image and zeros.

        Args:
            x: Data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent ``(B, 4C, H/2, W/2)`` and log-determinants ``(B,)``, in nats.
        """
        return pixel_unshuffle(x, 2), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the image of twice the height and width and zeros.

        Args:
            z: Latent, ``(B, 4C, H/2, W/2)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        return pixel_shuffle(z, 2), z.new_zeros(z.shape[0])


class Unsqueeze(Bijection):
    """Undo a squeeze: ``(B, 4C, H, W) -> (B, C, 2H, 2W)``."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the image of twice the height and width and zeros.

        Args:
            x: Data, ``(B, 4C, H/2, W/2)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        return pixel_shuffle(x, 2), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the squeezed image and zeros.

        Args:
            z: Latent, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, 4C, H/2, W/2)`` and log-determinants ``(B,)``, in nats.
        """
        return pixel_unshuffle(z, 2), z.new_zeros(z.shape[0])


class Flatten(Bijection):
    """Turn ``(B, C, H, W)`` into ``(B, H·W·C)``: channels vary fastest, as in channels-last memory.

    Neighbouring indices are then channels of one position, so an odd/even mask splits channels.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__()
        self.shape = (height, width, channels)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the flat vector and zeros.

        Args:
            x: Data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Latent ``(B, C·H·W)`` and log-determinants ``(B,)``, in nats.
        """
        return x.permute(0, 2, 3, 1).flatten(1), x.new_zeros(x.shape[0])

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the image and zeros.

        Args:
            z: Latent, ``(B, C·H·W)``.
            context: Context of the elements, ``(B, context_dim)``; without effect here.

        Returns:
            Data ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        return z.unflatten(1, self.shape).permute(0, 3, 1, 2), z.new_zeros(z.shape[0])


class Chain(Bijection):
    """Bijections one after the other; log-determinants add."""

    def __init__(self, layers: Iterable[Bijection]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Apply every layer in order.

        Args:
            x: Data, ``(B, ...)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent ``(B, ...)`` and log-determinants ``(B,)``, in nats.
        """
        first, *others = self.layers
        x, total = first(x, context)
        for layer in others:
            x, log_det = layer(x, context)
            total = total + log_det
        return x, total

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialise every layer on the output of those before it, in place.

        Args:
            x: A batch of data, ``(B, ...)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, ``(B, ...)``.
        """
        for layer in self.layers:
            x = layer.initialise(x, context)  # type: ignore[operator]
        return x

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Bijection]:
        return iter(self.layers)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Bijection:
        layer: Bijection = self.layers[index]  # type: ignore[assignment]
        return layer

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Undo every layer, the last one first.

        Args:
            z: Latent, ``(B, ...)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, ...)`` and log-determinants ``(B,)``, in nats.
        """
        last, *others = reversed(self.layers)
        z, total = last.inverse(z, context)  # type: ignore[operator]
        for layer in others:
            z, log_det = layer.inverse(z, context)  # type: ignore[operator]
            total = total + log_det
        return z, total


class FactorOut(Bijection):
    """Let half of the channels pass and only transform the rest (Real NVP, section 3.6).

    The two parts are put together again on the channel axis, so the shape stays an image.

    Args:
        inner: Bijection of the second half of the channels, keeping their shape.
    """

    def __init__(self, inner: Bijection) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform the second half of the channels.

        Args:
            x: Data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent, of the same shape, and log-determinants ``(B,)``, in nats.
        """
        passing, rest = x.chunk(2, dim=1)
        rest, log_det = self.inner(rest, context)
        return torch.cat([passing, rest], 1), log_det

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialise the inner map on the second half of the channels, in place.

        Args:
            x: A batch of data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, of the same shape.
        """
        passing, rest = x.chunk(2, dim=1)
        return torch.cat([passing, self.inner.initialise(rest, context)], 1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform the second half of the channels back.

        Args:
            z: Latent, of the same shape.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        passing, rest = z.chunk(2, dim=1)
        rest, log_det = self.inner.inverse(rest, context)
        return torch.cat([passing, rest], 1), log_det


class IndexedSubset(Bijection):
    """Transform the first dimensions of vectors and let the others pass.

    Args:
        number: How many are transformed.
        inner: The map of ``(B, number)``.
    """

    def __init__(self, number: int, inner: Bijection) -> None:
        super().__init__()
        self.number = number
        self.inner = inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform the first dimensions.

        Args:
            x: Data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        first, log_det = self.inner(x[:, : self.number], context)
        return torch.cat([first, x[:, self.number :]], 1), log_det

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialise the inner map on the first dimensions, in place.

        Args:
            x: A batch of data, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, ``(B, D)``.
        """
        first = self.inner.initialise(x[:, : self.number], context)
        return torch.cat([first, x[:, self.number :]], 1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform the first dimensions back.

        Args:
            z: Latent, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        first, log_det = self.inner.inverse(z[:, : self.number], context)
        return torch.cat([first, z[:, self.number :]], 1), log_det


class StridedSubset(Bijection):
    """Transform every second pixel along each axis, let the others pass, and flatten them all.

    Maps ``(B, C, H, W)`` to ``(B, C·H·W)``, the transformed quarter first.

    Args:
        height: Height of the image, even.
        width: Its width, even.
        inner: The map of ``(B, C, H/2, W/2)`` to ``(B, C·H·W/4)``.
    """

    def __init__(self, height: int, width: int, inner: Bijection) -> None:
        super().__init__()
        self.quarter = (height // 2, width // 2)
        self.inner = inner

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform the first of every 2×2 pixels.

        Args:
            x: Data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent ``(B, D)`` and log-determinants ``(B,)``, in nats.
        """
        dealt = pixel_unshuffle(x, 2).unflatten(1, (-1, 4))
        chosen, log_det = self.inner(dealt[:, :, 0], context)
        return torch.cat([chosen, dealt[:, :, 1:].flatten(1)], 1), log_det

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Initialise the inner map on the first of every 2×2 pixels, in place.

        Args:
            x: A batch of data, ``(B, C, H, W)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent of the batch, ``(B, D)``.
        """
        dealt = pixel_unshuffle(x, 2).unflatten(1, (-1, 4))
        chosen = self.inner.initialise(dealt[:, :, 0], context)
        return torch.cat([chosen, dealt[:, :, 1:].flatten(1)], 1)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Transform the first of every 2×2 pixels back.

        Args:
            z: Latent, ``(B, D)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, C, H, W)`` and log-determinants ``(B,)``, in nats.
        """
        chosen, passing = z.tensor_split([z.shape[1] // 4], dim=1)
        chosen, log_det = self.inner.inverse(chosen, context)
        passing = passing.unflatten(1, (-1, 3, *self.quarter))
        dealt = torch.cat([chosen.unsqueeze(2), passing], 2).flatten(1, 2)
        return pixel_shuffle(dealt, 2), log_det
