"""A flow as a ``torch.distributions`` transform, for code that is written against those."""

from __future__ import annotations

from torch import Tensor
from torch.distributions import Transform, constraints

from bruno.flows.flow import Flow


class FlowTransform(Transform):
    """The map from data to latent vectors of a flow without context.

    Besides the interface of torch it has ``call_and_ladj``, which zuko's distributions use to get
    value and log-determinant in one pass.

    Args:
        flow: The flow.

    Example:
        >>> import torch
        >>> from bruno import FlowTransform, RealNVP
        >>> from torch.distributions import Independent, Normal, TransformedDistribution
        >>> base = Independent(Normal(torch.zeros(4), torch.ones(4)), 1)
        >>> density = TransformedDistribution(base, [FlowTransform(RealNVP((4,))).inv])
        >>> density.log_prob(torch.zeros(3, 4)).shape
        torch.Size([3])
    """

    bijective = True

    def __init__(self, flow: Flow) -> None:
        super().__init__()
        self.flow = flow

    @property
    def domain(self) -> constraints.Constraint:  # type: ignore[override]
        """Data of the flow: pixels in [0, 256], or any vectors."""
        is_image = len(self.flow.event_shape) == 3
        base = constraints.interval(0.0, 256.0) if is_image else constraints.real
        return constraints.independent(base, len(self.flow.event_shape))

    @property
    def codomain(self) -> constraints.Constraint:  # type: ignore[override]
        """Latent vectors."""
        return constraints.real_vector

    def forward_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of latent vectors for data of a shape."""
        return (*shape[: len(shape) - len(self.flow.event_shape)], self.flow.dim)

    def inverse_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shape of data for latent vectors of a shape."""
        return (*shape[:-1], *self.flow.event_shape)

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the latent vectors and the log-determinants, in nats."""
        return self.flow.forward(x)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the log-determinants at ``x``, in nats.

        Args:
            x: Data, ``(*B, *event)``.
            y: Their latent vectors, which are not needed.
        """
        return self.flow.forward(x)[1]

    def _call(self, x: Tensor) -> Tensor:
        return self.flow.forward(x)[0]

    def _inverse(self, y: Tensor) -> Tensor:
        return self.flow.inverse(y)[0]
