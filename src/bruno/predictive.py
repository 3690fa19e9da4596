"""Predictive distributions: a model together with the evidence of a set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import one_hot

from bruno import chunks
from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.validation import check_floating, values_can_be_checked

if TYPE_CHECKING:
    from bruno.model import Bruno


class Predictive(Distribution):
    """Predictive distribution of the next element of a set: a torch ``Distribution``, immutable.

    Of batch shape ``*B`` (one predictive for every set) and event shape ``*event``. As for any
    torch distribution, leading dimensions of a sample or value come before ``*B``.

    Densities and samples are exact for every flow. :attr:`mean` and :attr:`variance` need an affine
    flow (presets ``diagonal`` and ``affine``), :meth:`cdf` and :meth:`icdf` also data of one
    dimension, :meth:`rsample` a continuous flow (all presets but ``lattice``); otherwise they raise
    :class:`NotImplementedError`.

    Args:
        model: The model.
        evidence: Sufficient statistics of the set, of batch shape ``*B``.
    """

    arg_constraints = {}  # noqa: RUF012 - as torch.distributions declares it

    def __init__(self, model: Bruno, evidence: Evidence) -> None:
        self._model = model
        self._evidence = evidence
        super().__init__(evidence.batch_shape, torch.Size(model.event_shape), validate_args=False)

    @property
    def evidence(self) -> Evidence:
        """Sufficient statistics of the set."""
        return self._evidence

    @property
    def model(self) -> Bruno:
        """The model that predicts."""
        return self._model

    @property
    def support(self) -> constraints.Constraint:
        """Pixels in [0, 256] for images, the real line for vectors."""
        is_image = len(self.event_shape) == 3
        base = constraints.interval(0.0, 256.0) if is_image else constraints.real
        return constraints.independent(base, len(self.event_shape))

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """Whether there is an :meth:`rsample`, as for all continuous flows."""
        return self._model.flow.is_continuous

    def expand(self, batch_shape: Sequence[int], _instance: Any = None) -> Predictive:
        """Return the same predictive for a larger batch of sets, without copying evidence.

        Args:
            batch_shape: A shape that the batch shape broadcasts to.

        Raises:
            UserError: If it does not broadcast to that.
        """
        checked: Any = self._get_checked_instance
        new: Predictive = checked(Predictive, _instance)
        new._model, new._evidence = self._model, self._evidence.expand(batch_shape)
        Distribution.__init__(new, new._evidence.batch_shape, self.event_shape, validate_args=False)
        return new

    def log_prob(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Return the exact log-density of a next element, in nats.

        Args:
            x: Shape ``(*S, *B, *event)``, batch dimensions broadcast.
            context: Context features of the elements, ``(*S, *B, context_dim)``.

        Returns:
            Shape ``(*S, *B)``.

        Raises:
            UserError: If the flow cannot take the elements.
        """
        z, log_det = self._encoded(x, context)
        # Not Independent.log_prob, which cannot reshape the terms of no elements.
        terms: Tensor = self._latent().log_prob(z)
        return terms.sum(-1) + log_det.double()

    def sample(
        self,
        sample_shape: int | Sequence[int] = (),
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        latent_scale: float = 1.0,
    ) -> Tensor:
        """Draw next elements, independently of each other given the set, without gradients.

        Args:
            sample_shape: How many, or a shape of them; by default one without a sample dimension.
            context: Context features of the elements, broadcastable to
                ``(*sample_shape, *B, context_dim)``.
            generator: Source of randomness; by default torch's global one.
            latent_scale: 1 for exact samples. Below 1 latent deviations from the predictive mean
                are shrunk, for samples that are more typical and less varied than the model's
                distribution (as in Glow, Kingma & Dhariwal 2018); 0 is the image of the mean.

        Returns:
            Elements of shape ``(*sample_shape, *B, *event)``.

        Raises:
            UserError: If a number of samples or the latent scale is negative, or the context does
                not fit.
        """
        with torch.no_grad():
            return self._drawn(sample_shape, context, generator, latent_scale)

    def rsample(
        self,
        sample_shape: int | Sequence[int] = (),
        context: Tensor | None = None,
        generator: torch.Generator | None = None,
        latent_scale: float = 1.0,
    ) -> Tensor:
        """Draw next elements as :meth:`sample` does, reparametrised.

        Gradients reach the evidence and the parameters of process and flow; those of the degrees
        of freedom of a Student-t process by implicit reparametrisation (Figurnov, Mohamed & Mnih,
        NeurIPS 2018).

        Args:
            sample_shape: How many, or a shape of them; by default one without a sample dimension.
            context: Context features of the elements, broadcastable to
                ``(*sample_shape, *B, context_dim)``.
            generator: Source of randomness; by default torch's global one.
            latent_scale: As in :meth:`sample`.

        Returns:
            Elements of shape ``(*sample_shape, *B, *event)``.

        Raises:
            NotImplementedError: If the flow is not continuous from latent vectors to data.
            UserError: As :meth:`sample`.
        """
        if not self.has_rsample:
            raise NotImplementedError(
                f"rsample: samples of a {self._model.flow.name} jump where a grey level "
                "changes, which their gradients would leave out; use sample, and the gradient of "
                "log_prob"
            )
        return self._drawn(sample_shape, context, generator, latent_scale)

    @property
    def mean(self) -> Tensor:
        """Mean, shape ``(*B, *event)``, for an affine flow.

        Raises:
            NotImplementedError: If the flow is not affine.
        """
        self._check_affine("mean")
        return self._model.decode(self._latent().loc)

    @property
    def variance(self) -> Tensor:
        """Variance of every dimension of an element, shape ``(*B, *event)``, for an affine flow.

        Raises:
            NotImplementedError: If the flow is not affine.
        """
        self._check_affine("variance")
        latent = self._latent().variance
        dimensions = torch.arange(latent.shape[-1], device=latent.device)
        rows = chunks.rows_per_chunk(len(dimensions), chunks.MEMORY_ELEMENTS)
        parts = dimensions.split(rows)
        variances = [latent @ self._slopes(part).double().square().T for part in parts]
        return torch.cat(variances, -1).to(self._model.flow.dtype)

    def cdf(self, value: Tensor) -> Tensor:
        """Return the probability of a next element up to a value, for one-dimensional data.

        Args:
            value: Shape ``(*S, *B, 1)``, batch dimensions broadcast.

        Returns:
            Shape ``(*S, *B)``, float64; of a Student-t process without gradients.

        Raises:
            NotImplementedError: If the data have more dimensions or the flow is not affine.
            UserError: If the flow cannot take the values.
        """
        self._check_affine("cdf", in_one_dimension=True)
        latent = self._latent()
        standard = (self._encoded(value, None)[0] - latent.loc) / latent.scale
        probability = self._model.process.standard_cdf(latent, standard * self._direction())
        return probability.squeeze(-1)

    def icdf(self, value: Tensor) -> Tensor:
        """Return the quantiles of a next element, for one-dimensional data; inverse of :meth:`cdf`.

        Args:
            value: Probabilities, shape ``(*S, *B)``, batch dimensions broadcast.

        Returns:
            Shape ``(*S, *B, 1)``; of a Student-t process without gradients.

        Raises:
            NotImplementedError: If the data have more dimensions or the flow is not affine.
            UserError: If the values are not probabilities.
        """
        self._check_affine("icdf", in_one_dimension=True)
        check_floating("value", value)
        if values_can_be_checked(value) and not bool(((value >= 0) & (value <= 1)).all()):
            raise UserError("value: expected probabilities from 0 to 1")
        self._check_batch("value", value.shape)
        latent = self._latent()
        standard = self._model.process.standard_icdf(latent, value.double().unsqueeze(-1))
        inside = standard.isfinite()
        z = latent.loc + latent.scale * torch.where(inside, standard, 0.0) * self._direction()
        x = self._model.decode(z)
        return torch.where(inside, x, standard.to(x.dtype))

    def entropy(self) -> Tensor:
        """Raise, for the entropy is not implemented.

        Raises:
            NotImplementedError: Always; the message describes an estimate.
        """
        raise NotImplementedError(
            "entropy: is not implemented; -predictive.log_prob(predictive.sample(n)).mean(0) "
            "estimates it, in nats"
        )

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Raise, for there are infinitely many elements.

        Raises:
            NotImplementedError: Always.
        """
        raise NotImplementedError("enumerate_support: elements are continuous and not countable")

    def observe(self, x: Tensor, context: Tensor | None = None) -> Predictive:
        """Return the predictive after seeing more, in O(D) per element.

        Args:
            x: One element per set, ``(*B, *event)``, or several, ``(*B, n, *event)``.
            context: Context features of the elements.

        Raises:
            UserError: If the shape fits neither, or the flow cannot take the elements.
        """
        seen = self._evidence.of_elements(self._model.encode(x, context))
        return Predictive(self._model, self._evidence + seen)

    def forget(self, x: Tensor, context: Tensor | None = None) -> Predictive:
        """Return the predictive without elements that were seen; the exact inverse of `observe`.

        Args:
            x: One element per set, ``(*B, *event)``, or several, ``(*B, n, *event)``.
            context: Context features the elements were seen with.

        Raises:
            UserError: If the elements cannot have been part of the set.
        """
        seen = self._evidence.of_elements(self._model.encode(x, context))
        return Predictive(self._model, self._evidence - seen)

    def __repr__(self) -> str:
        return (
            f"Predictive(batch_shape={tuple(self.batch_shape)}, "
            f"event_shape={tuple(self.event_shape)}, count={self._evidence.count.tolist()})"
        )

    def _latent(self) -> Any:
        """Return the distribution of every latent dimension, of batch shape ``(*B, D)``."""
        return self._model.process.predictive(self._evidence).base_dist

    def _encoded(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return float64 latent vectors and log-determinants of elements that fit the batch."""
        z, log_det = self._model(x, context)
        self._check_batch("x", log_det.shape)
        return z.double(), log_det

    def _drawn(
        self,
        sample_shape: int | Sequence[int],
        context: Tensor | None,
        generator: torch.Generator | None,
        latent_scale: float,
    ) -> Tensor:
        z = self._model.process.sample(self._evidence, sample_shape, generator, latent_scale)
        if torch.is_tensor(context) and context.ndim:  # the flow refuses all else
            try:
                context = context.expand(*z.shape[:-1], context.shape[-1])
            except RuntimeError:
                raise UserError(
                    f"context: expected a shape that broadcasts to {tuple(z.shape[:-1])} and the "
                    f"context's size, got {tuple(context.shape)}"
                ) from None
        return self._model.decode(z, context)

    def _slopes(self, dimensions: Tensor) -> Tensor:
        """Return the derivatives of some dimensions of data by all latent ones, ``(K,) -> (K, D)``.

        For an affine flow, whose derivatives are the same everywhere.
        """
        flow = self._model.flow
        direction = one_hot(dimensions, flow.dim).to(flow.dtype)
        pull_back: Any = torch.func.vjp(self._model.decode, torch.zeros_like(direction))[1]
        slopes: Tensor = pull_back(direction)[0]
        return slopes

    def _direction(self) -> Tensor:
        """Return 1 if data grow with their one latent dimension, else −1."""
        return self._slopes(self._evidence.count.new_zeros(1)).squeeze(0).sign().double()

    def _check_affine(self, name: str, *, in_one_dimension: bool = False) -> None:
        flow = self._model.flow
        if not flow.is_affine:
            raise NotImplementedError(
                f"{name}: has no closed form for a {flow.name}, only for the affine "
                "flows of vectors; estimate it from samples"
            )
        if in_one_dimension and flow.event_shape != (1,):
            raise NotImplementedError(
                f"{name}: is there for data of shape (1,) only, got {flow.event_shape}"
            )

    def _check_batch(self, name: str, batch_shape: torch.Size) -> None:
        try:
            torch.broadcast_shapes(batch_shape, self.batch_shape)
        except RuntimeError:
            raise UserError(
                f"{name}: expected batch dimensions that broadcast with "
                f"{tuple(self.batch_shape)}, got {tuple(batch_shape)}"
            ) from None
