"""A flow: a chain of layers from elements to latent vectors, with checks at its two ends."""

from __future__ import annotations

import math
import operator
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from bruno.errors import UserError
from bruno.flows.bijection import FACTORY_KWARGS, Bijection
from bruno.flows.block_sums import BlockSums
from bruno.flows.reshape import Chain
from bruno.validation import check_finite, check_floating, check_tensor, check_type, check_whole


class Flow(nn.Module):
    r"""A chain of layers from elements (images or vectors) to latent vectors.

    Images are dequantised pixels in [0, 256]; the map to the real line is one of the layers.
    Vectors are taken as they are. All densities are therefore those of the data as given.

    Args:
        layers: The layers, from data to latent. The last one returns ``(B, D)``.
        event_shape: Shape of an element, ``(C, H, W)`` or ``(D,)``.
        context_dim: Size of the context of each element in a conditional flow; 0 for none.

    Raises:
        UserError: If there are no layers, or the shape or the size is not one of an element.

    Example:
        >>> from bruno.flows.affine import ActivationNorm, FullAffine
        >>> flow = Flow([FullAffine(3), ActivationNorm(3)], (3,))
        >>> z, log_det = flow(torch.zeros(5, 3))
        >>> z.shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    _like: Tensor

    def __init__(
        self, layers: Iterable[Bijection], event_shape: Sequence[int], context_dim: int = 0
    ) -> None:
        super().__init__()
        self.event_shape = checked_event_shape(event_shape)
        check_whole("context_dim", context_dim, 0)
        self.context_dim = context_dim
        self.layers = Chain(_checked_layers(layers))
        # Follows the parameters to every precision; a look-up among the parameters is slower.
        self.register_buffer("_like", torch.zeros(0, **FACTORY_KWARGS), persistent=False)
        kinds = [layer for layer in self.modules() if isinstance(layer, Bijection)]
        self._latent_is_double = any(layer.latent_is_double for layer in kinds)
        self._is_continuous = all(layer.is_continuous for layer in kinds)

    @property
    def dim(self) -> int:
        """Dimension ``D`` of the latent vector."""
        return math.prod(self.event_shape)

    @property
    def code_dim(self) -> int:
        """Number of leading latent dimensions that may be correlated within a set.

        Those behind them are independent of everything by design, and standard normal.
        """
        return leading_code_dim([self], self.dim)

    @property
    def name(self) -> str:
        """Name of the flow, for messages."""
        return f"chain of {len(self.layers)} layers"

    @property
    def is_affine(self) -> bool:
        """Whether data and latent vectors are affine functions of each other."""
        return all(layer.is_affine for layer in self.layers)

    @property
    def is_continuous(self) -> bool:
        """Whether data are a continuous function of the latent vectors."""
        return self._is_continuous

    @property
    def initialisation_images(self) -> int:
        """Images that :meth:`initialise` needs at least; 0 for a few dozens."""
        kinds = [layer for layer in self.modules() if isinstance(layer, Bijection)]
        return max((layer.initialisation_images for layer in kinds), default=0)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self._like.dtype

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent.

        Args:
            x: Data, shape ``(*B, *event)``.
            context: Context, shape ``(*B, context_dim)``; required exactly if the flow takes one.

        Returns:
            ``z`` of shape ``(*B, D)`` and ``log_det`` of shape ``(*B,)``, in nats; in the precision
            of the parameters, or in float64 with a layer whose latent is.

        Raises:
            UserError: If a shape or dtype is not the expected one or a value is out of range.
        """
        batch, x, context = self._flattened("x", x, self.event_shape, self.dtype, context)
        # Torch's pixel shuffles fail on empty batches.
        if x.shape[0] == 0:
            return x.new_zeros(*batch, self.dim), x.new_zeros(batch)
        z, log_det = self.layers(x, context)
        # A copy, for it may be a view of a parameter, once for each element.
        return z.reshape(*batch, -1), log_det.clone().reshape(batch)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data, exactly.

        Args:
            z: Latent vectors, shape ``(*B, D)``.
            context: Context, shape ``(*B, context_dim)``; required exactly if the flow takes one.

        Returns:
            ``x`` of shape ``(*B, *event)`` and the log-determinant of the inverse, ``(*B,)``.

        Raises:
            UserError: If a shape or dtype is not the expected one or a value is not finite.
        """
        latent_dtype = torch.float64 if self._latent_is_double else self.dtype
        batch, z, context = self._flattened("z", z, (self.dim,), latent_dtype, context)
        if z.shape[0] == 0:
            return z.new_zeros(*batch, *self.event_shape), z.new_zeros(batch)
        x, log_det = self.layers.inverse(z, context)
        x = x.to(self.dtype).reshape(*batch, *self.event_shape)
        return x, log_det.clone().reshape(batch)

    @torch.no_grad()
    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set the scales of all layers from a batch, in place.

        Every layer is initialised on the output of the layers before it. Call it once, before
        training, with a batch of (at least some dozens of) training data.

        Args:
            x: Data, shape ``(*B, *event)``.
            context: Context, shape ``(*B, context_dim)``.

        Raises:
            UserError: If there are fewer than two elements, or they do not fit the flow.
        """
        _, x, context = self._flattened("x", x, self.event_shape, self.dtype, context)
        if x.shape[0] < 2:
            raise UserError(f"x: expected at least 2 elements to set scales from, got {len(x)}")
        self.layers.initialise(x, context)

    def compile_layers(self) -> None:
        """Have ``torch.compile`` translate the layers when they are next called.

        Pixels given sums stay as they are: which of them need a network depends on the data.
        """
        codes = [layer.code for layer in self.modules() if isinstance(layer, BlockSums)]
        for layer in codes or [self.layers]:
            layer.compile()

    def _flattened(
        self,
        name: str,
        x: Tensor,
        event_shape: tuple[int, ...],
        dtype: torch.dtype,
        context: Tensor | None,
    ) -> tuple[torch.Size, Tensor, Tensor | None]:
        """Return the batch shape, and the checked input and context as (B, ...)."""
        is_image = len(event_shape) == 3
        check_floating(name, x, "bruno.data.dequantise makes one of pixels" if is_image else "")
        batch = x.shape[: x.dim() - len(event_shape)]
        if x.shape[len(batch) :] != event_shape:
            expected = ", ".join(map(str, event_shape))
            raise UserError(f"{name}: expected shape (*B, {expected}), got {tuple(x.shape)}")
        check_finite(name, x)
        context = self._checked_context(context, batch)
        x = x.reshape(-1, *event_shape).to(dtype)
        if x.dim() == 4:
            # Channels-last memory, by permuting: vmap does not take a memory format.
            x = x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
        return batch, x, context

    def _checked_context(self, context: Tensor | None, batch: torch.Size) -> Tensor | None:
        if not self.context_dim:
            if context is not None:
                raise UserError("context: this model takes no context, but one was given")
            return None
        expected = (*batch, self.context_dim)
        if context is None:
            raise UserError(f"context: this model needs one of shape {expected}, got none")
        check_tensor("context", context)
        if context.shape != expected or not context.is_floating_point():
            raise UserError(
                f"context: expected a floating-point tensor of shape {expected}, got "
                f"{context.dtype} {tuple(context.shape)}"
            )
        check_finite("context", context)
        return context.reshape(-1, self.context_dim).to(self.dtype)


def checked_event_shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of an element as a tuple, ``(C, H, W)`` or ``(D,)``.

    Args:
        event_shape: The shape as given.

    Raises:
        UserError: If it is neither, or a size is not positive.
    """
    try:
        shape = tuple(operator.index(size) for size in event_shape)
    except TypeError:
        raise UserError(f"event_shape: expected (C, H, W) or (D,), got {event_shape!r}") from None
    if len(shape) in (1, 3) and min(shape) > 0:
        return shape
    raise UserError(f"event_shape: expected (C, H, W) or (D,), got {shape}")


def _checked_layers(layers: Iterable[Bijection]) -> list[Bijection]:
    if not isinstance(layers, Iterable):
        raise UserError(f"layers: expected a list of layers, got {layers!r}")
    listed = list(layers)
    if not listed:
        raise UserError("layers: expected at least one layer, got none")
    for layer in listed:
        check_type("layers", layer, Bijection)
    return listed


def leading_code_dim(layers: Iterable[nn.Module], dim: int) -> int:
    """Return the number of leading latent dimensions that may be correlated within a set.

    Args:
        layers: The layers of a flow.
        dim: Dimension of its latent vectors, which is returned if none of them is independent.
    """
    modules = (module for layer in layers for module in layer.modules())
    parts = [module.code_dim for module in modules if isinstance(module, BlockSums)]
    return min(parts, default=dim)
