"""The shape contract that every layer of a flow keeps."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

FACTORY_KWARGS: dict[str, Any] = {"device": "cpu", "dtype": torch.float32}
"""Where and in which precision every layer is made, whatever torch's defaults are."""


class Bijection(nn.Module, ABC):
    r"""An invertible map of batched elements, data x to latent z.

    Shapes: ``x`` and ``z`` carry one leading batch dimension ``B`` inside a flow, and ``context``,
    where a layer uses it, is ``(B, context_dim)``. ``log_det`` is ``(B,)``, in nats:
    :math:`\log |\det \partial z / \partial x|` from :meth:`forward`, and
    :math:`\log |\det \partial x / \partial z|`, its negative at the same point, from
    :meth:`inverse`.
    """

    @abstractmethod
    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent; return ``(z, log_det)``."""

    @abstractmethod
    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data; return ``(x, log_det)``."""
