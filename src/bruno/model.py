r"""BRUNO: a bijection into latent space and an exchangeable process there.

.. math:: \log p(x_1..x_n) = \log p(z_1..z_n) + \sum_i \log |\det \partial f(x_i) / \partial x_i|

(Korshunova et al., *BRUNO: A Deep Recurrent Model for Exchangeable Data*, NeurIPS 2018, eq. 5),
with a context per element as in *Conditional BRUNO* (2018) where the flow takes a context.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.flows import Flow
from bruno.flows.block_sums import code_only
from bruno.pixels import as_pixels
from bruno.predictive import Predictive
from bruno.processes import ExchangeableProcess
from bruno.validation import check_type


class Bruno(nn.Module):
    """An exchangeable model of sets: exact likelihoods, samples and conditioning.

    Shapes: sets are ``(*B, n, *event)``, context, for a conditional flow, ``(*B, n, context_dim)``.
    Log-densities are in nats, of the data as given, in float64.

    A model of images takes dequantised pixels, floats in [0, 256), or grey levels: integers of any
    width, or images of floats that are all whole numbers from 0 to 255. The middle of its bin,
    ``level + 0.5``, stands for a grey level; that is a fixed choice where noise (see
    :func:`~bruno.data.sets.dequantise`) is a random one, and likelihoods that are to be compared
    with those of other models need the noise. Pixels scaled to 0..1, masks of 0 and 1 and booleans
    are refused; see :mod:`bruno.pixels`.

    Args:
        flow: The bijection between data and latent vectors.
        process: The exchangeable process of the latent vectors.

    Raises:
        UserError: If the dimensions of flow and process differ, or one of them is something else.

    Example:
        >>> from bruno import ExchangeableGaussian, RealNVP
        >>> model = Bruno(RealNVP((4,)), ExchangeableGaussian(4))
        >>> seen, new = torch.randn(3, 4), torch.randn(4)
        >>> predictive = model.condition(seen)
        >>> predictive.log_prob(new).shape, predictive.sample(5).shape
        (torch.Size([]), torch.Size([5, 4]))
    """

    def __init__(self, flow: Flow, process: ExchangeableProcess) -> None:
        super().__init__()
        check_type("flow", flow, nn.Module)
        check_type("process", process, ExchangeableProcess)
        if flow.dim != process.dim:
            raise UserError(
                f"process: expected the {flow.dim} dimensions of the flow, got {process.dim}"
            )
        self.flow = flow
        self.process = process

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of one element."""
        return self.flow.event_shape

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.process.loc.device

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return latent vectors ``(*B, D)`` and log-determinants ``(*B,)`` of elements.

        Args:
            x: Elements, ``(*B, *event)``.
            context: Context of the elements, ``(*B, context_dim)``, for a conditional model.

        Raises:
            UserError: If the flow cannot take the elements, or pixels are of the wrong kind.
        """
        if len(self.event_shape) == 3 and torch.is_tensor(x) and x.shape[-3:] == self.event_shape:
            x = as_pixels("x", x)
        return self.flow.forward(x, context)

    def encode(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the latent vectors ``(*B, D)`` of elements ``(*B, *event)``.

        Args:
            x: Elements, ``(*B, *event)``.
            context: Context of the elements, ``(*B, context_dim)``, for a conditional model.
        """
        return self.forward(x, context)[0]

    def encode_code(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the leading latent dimensions that other elements of a set can inform.

        Comparing sets needs no others, and where the flow leaves many dimensions independent of
        the set (:attr:`~bruno.flows.Flow.code_dim`), these are several times faster to compute.
        Elsewhere this is :meth:`encode`. The process of these dimensions is
        ``model.process.first(z.shape[-1])``.

        Args:
            x: Elements, ``(*B, *event)``.
            context: Context of the elements, ``(*B, context_dim)``, for a conditional model.
        """
        code_dim = self.flow.code_dim
        if code_dim == self.process.dim or bool(self.process.is_informed[code_dim:].any()):
            return self.encode(x, context)
        with code_only():
            return self.forward(x, context)[0][..., :code_dim]

    def decode(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the elements ``(*B, *event)`` of latent vectors ``(*B, D)``.

        Args:
            z: Latent vectors, ``(*B, D)``.
            context: Context of the elements, ``(*B, context_dim)``, for a conditional model.
        """
        return self.flow.inverse(z, context)[0]

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the joint log-density of whole sets, ``(*B, n, *event) -> (*B,)``, in nats.

        Args:
            x: Sets, ``(*B, n, *event)``.
            context: Context of the elements, ``(*B, n, context_dim)``, for a conditional model.

        Raises:
            UserError: If the input is not a set of elements the flow takes.
        """
        z, log_det = self._encoded_sets(x, context)
        return self.process.log_prob(z) + log_det.double().sum(-1)

    def predictive_log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        r"""Return :math:`\log p(x_i | x_{<i})` of every element, ``(*B, n, *event) -> (*B, n)``.

        The terms sum to :meth:`log_prob`.

        Args:
            x: Sets, ``(*B, n, *event)``.
            context: Context of the elements, ``(*B, n, context_dim)``, for a conditional model.

        Raises:
            UserError: If the input is not a set of elements the flow takes.
        """
        z, log_det = self._encoded_sets(x, context)
        return self.process.predictive_log_prob(z) + log_det.double()

    def prior(self) -> Predictive:
        """Return the prior predictive, the distribution of the first element of a set."""
        return Predictive(self, Evidence.empty(self.process.dim, device=self.device))

    def condition(self, x: Tensor, context: Tensor | None = None) -> Predictive:
        """Return the distribution of the next element of sets ``(*B, n, *event)``; n may be 0.

        Args:
            x: Sets, ``(*B, n, *event)``.
            context: Context of the elements, ``(*B, n, context_dim)``, for a conditional model.

        Raises:
            UserError: If the input is not a set of elements the flow takes.
        """
        return Predictive(self, Evidence.of(self._encoded_sets(x, context)[0]))

    def _encoded_sets(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        if torch.is_tensor(x) and x.dim() == len(self.event_shape):
            expected = ", ".join(map(str, self.event_shape))
            raise UserError(
                f"x: expected sets of shape (*B, n, {expected}), got one element of shape "
                f"{tuple(x.shape)}"
            )
        return self.forward(x, context)

    def save_pretrained(
        self,
        path: str | Path,
        metadata: dict[str, Any] | None = None,
        *,
        half_precision: bool = False,
    ) -> None:
        """Write the model to a directory: ``model.safetensors`` and ``config.json``.

        Args:
            path: The directory; made if it is missing.
            metadata: Anything JSON can hold that is worth keeping with the weights.
            half_precision: Round the large weights of the flow to float16, for half the size.

        Raises:
            UserError: If the model or the metadata cannot be saved; then nothing is written.
            OSError: If the disk is full or cannot be written; a model that was at this path is then
                still there.
        """
        from bruno import pretrained

        pretrained.save(self, path, metadata or {}, half_precision=half_precision)

    @classmethod
    def from_pretrained(cls, name_or_path: str | Path) -> Bruno:
        """Load a model from a directory, or one that comes with the package, by name. Offline.

        Raises:
            UserError: If there is no such model; the message lists the known names.
            CheckpointError: If the files are damaged or not of a model of this library.
        """
        from bruno import pretrained

        return pretrained.load(name_or_path)

    @staticmethod
    def pretrained() -> tuple[str, ...]:
        """Return the names of the models that come with the package."""
        from bruno import pretrained

        return pretrained.names()
