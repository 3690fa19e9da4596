"""The shape contract that every layer of a flow keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

FACTORY_KWARGS: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
"""Where and in which precision every layer is made, whatever torch's defaults are."""


class Bijection(nn.Module, ABC):
    r"""An invertible map of batched elements, data x to latent z.

    Shapes: ``x`` and ``z`` carry one leading batch dimension ``B``, and ``context``, where a layer
    uses it, is ``(B, context_dim)``. ``log_det`` is ``(B,)``, in nats:
    :math:`\log |\det \partial z / \partial x|` from :meth:`forward`, and
    :math:`\log |\det \partial x / \partial z|`, its negative at the same point, from
    :meth:`inverse`.

    Attributes:
        latent_is_double: Whether the latent is float64 whatever the precision of the parameters.
        is_affine: Whether data and latent are affine functions of each other.
        initialisation_images: Images that :meth:`initialise` needs at least; 0 for a few dozens.
        is_continuous: Whether data are a continuous function of the latent, in which gradients
            through samples are those of their expectation.
    """

    latent_is_double: ClassVar[bool] = False
    is_affine: ClassVar[bool] = False
    initialisation_images: ClassVar[int] = 0
    is_continuous: ClassVar[bool] = True

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent; return ``(z, log_det)``.

        Args:
            x: Data, ``(B, ...)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Latent ``(B, ...)`` and log-determinants ``(B,)``, in nats.
        """

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data; return ``(x, log_det)``.

        Args:
            z: Latent, ``(B, ...)``.
            context: Context of the elements, ``(B, context_dim)``.

        Returns:
            Data ``(B, ...)`` and log-determinants ``(B,)``, in nats.
        """

    def initialise(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Set what depends on the scale of the data from a batch, in place.

        Layers without such parameters keep this default, which only passes the batch on.

        Args:
            x: A batch of elements as this layer receives them, ``(B, ...)``.
            context: Their context, ``(B, context_dim)``.

        Returns:
            The latent of the batch, for the next layer.
        """
        latent: Tensor = self(x, context)[0]
        return latent
