"""Real NVP: the flow of every model, by preset; see :mod:`bruno.flows.presets`."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from bruno.errors import UserError
from bruno.flows.bijection import FACTORY_KWARGS
from bruno.flows.initialise import initialise_from_data
from bruno.flows.linear import ActivationNorm
from bruno.flows.presets import PRESETS, VECTOR_PRESETS, Architecture, layers_of
from bruno.flows.reshape import Chain
from bruno.flows.steering import Steering, dimensions_to_steer
from bruno.validation import check_finite

_CONTEXT_UNITS = 32


class RealNVP(nn.Module):
    r"""A multi-scale Real NVP from images or vectors to latent vectors.

    - ``paper``: the flow of BRUNO (Korshunova et al., NeurIPS 2018, appendix): masked couplings
      with eight residual blocks at full resolution, then six dense couplings.
    - ``conditional-paper``: the flow of *Conditional BRUNO* (Korshunova et al., 2018): the same at
      three resolutions, with six residual blocks and narrower dense couplings; height and width
      must be multiples of 4. It starts as the identity behind the logit, with any context.
    - ``compact``: for CPUs: squeeze first, then few couplings with small networks at a half and a
      quarter of the resolution, mixed by invertible 1×1 convolutions, then dense couplings.
    - ``lattice``: a :class:`~bruno.flows.lattice.LatticeGaussianisation`, then the same as
      ``compact`` on every second pixel along each axis, for a far better likelihood; height and
      width must be multiples of 4.
    - ``spectral``: pixels given their marginal, then the cosine transform; dense couplings mix its
      lowest frequencies, which say what an image shows, and all others are given these. Trained
      for likelihood alone it tells classes apart far better than the other flows.
    - ``dense``: dense couplings only, for vectors (or images as vectors).
    - ``linear``, ``affine``: for vectors: any invertible affine map, or scales and shifts only.
      They are set from statistics of data rather than trained. With a ``rank``, ``linear``
      mixes a subspace of so many dimensions only, in O(D · rank).

    In all but the two flows of the papers a context also modulates the couplings' networks. Angles
    that are named in ``context_angles`` do not reach the couplings, though: latent dimensions turn
    with them, behind all other layers (see :class:`~bruno.flows.steering.Steering`).

    Images are dequantised pixels in [0, 256]; what takes them to the real line is part of the
    flow. Vectors are taken as they are. All densities are therefore those of the data as given.

    A new flow is on the CPU, in float32, whatever torch's default device and dtype are; ``to``
    moves it.

    Args:
        event_shape: ``(C, H, W)`` with even ``H`` and ``W``, or ``(D,)``; ``dense`` needs at
            least 2 dimensions.
        context_dim: Size of the label of each element in a conditional model; 0 for none.
        context_angles: Where the label has the sine of an angle to turn latent dimensions with;
            its cosine is the next entry.
        preset: One of the names above; by default ``compact`` for images, ``dense`` for vectors.
        filters: Width of convolutional conditioners, one number or one per resolution.
        residual_blocks: Residual blocks in each convolutional conditioner.
        dense_units: Width of the dense conditioners.
        dense_couplings: Number of dense couplings.
        rank: Dimensions of the subspace that ``linear`` mixes; by default the whole space.

    Raises:
        UserError: If the shape, the preset or a size is not one a flow can be built for.

    Example:
        >>> flow = RealNVP((1, 8, 8))
        >>> x = 256 * torch.rand(3, 1, 8, 8)
        >>> z, log_det = flow(x)
        >>> z.shape, log_det.shape
        (torch.Size([3, 64]), torch.Size([3]))
        >>> torch.allclose(flow.inverse(z)[0], x, atol=1e-2)
        True
    """

    _like: Tensor

    def __init__(
        self,
        event_shape: Sequence[int],
        context_dim: int = 0,
        preset: str | None = None,
        *,
        context_angles: Sequence[int] = (),
        filters: int | Sequence[int] | None = None,
        residual_blocks: int | None = None,
        dense_units: int | None = None,
        dense_couplings: int | None = None,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.event_shape = _checked_event_shape(event_shape)
        is_image = len(self.event_shape) == 3
        self.preset = preset or ("compact" if is_image else "dense")
        if self.preset not in PRESETS:
            raise UserError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}")
        if not is_image and self.preset not in VECTOR_PRESETS:
            raise UserError(
                f"preset: {self.preset!r} is for images; vectors of shape {self.event_shape} "
                f"take {', '.join(VECTOR_PRESETS)}"
            )
        if is_image and self.preset in {"linear", "affine"}:
            raise UserError(
                f"preset: {self.preset!r} is for vectors, got images of shape {self.event_shape}"
            )
        if self.preset == "dense" and self.event_shape == (1,):
            raise UserError("event_shape: couplings need (D,) with D >= 2, got (1,)")
        if context_dim < 0:
            raise UserError(f"context_dim: expected a size of at least 0, got {context_dim}")
        if context_dim and self.preset in {"linear", "affine"}:
            raise UserError(
                f"context_dim: expected 0 with preset {self.preset!r}, got {context_dim}"
            )
        whole = isinstance(rank, Integral) and not isinstance(rank, bool)
        if rank is not None and not (whole and self.preset == "linear" and 1 <= rank <= self.dim):
            raise UserError(
                "rank: expected none, or with preset 'linear' a number of dimensions from 1 to "
                f"{self.dim}, got {rank!r} with preset {self.preset!r}"
            )
        self.context_dim = context_dim
        self.context_angles = tuple(context_angles)
        angle_entries = [entry for start in self.context_angles for entry in (start, start + 1)]
        if len(set(angle_entries)) < len(angle_entries) or not set(angle_entries) <= set(
            range(context_dim)
        ):
            raise UserError(
                "context_angles: expected positions of the sines of angles, each followed by its "
                f"cosine, among the {context_dim} numbers of a context, got "
                f"{list(self.context_angles)}"
            )
        least = dimensions_to_steer(len(self.context_angles)) if self.context_angles else 0
        if self.dim < least:
            raise UserError(
                f"context_angles: expected at least {least} dimensions to turn with "
                f"{len(self.context_angles)} angles, got {self.dim}"
            )
        self._other_entries = [i for i in range(context_dim) if i not in angle_entries]
        self.overrides: dict[str, Any] = {
            name: value
            for name, value in (
                ("filters", filters),
                ("residual_blocks", residual_blocks),
                ("dense_units", dense_units),
                ("dense_couplings", dense_couplings),
                ("rank", None if rank is None else int(rank)),
            )
            if value is not None
        }
        architecture = _overridden(PRESETS[self.preset], self.overrides)

        self.context_encoder: nn.Module | None = None
        if self._other_entries:
            self.context_encoder = nn.Sequential(
                nn.Linear(len(self._other_entries), _CONTEXT_UNITS, **FACTORY_KWARGS),
                nn.LeakyReLU(),
            )
        context_units = _CONTEXT_UNITS if self._other_entries else 0
        self.layers = Chain(layers_of(self.preset, self.event_shape, architecture, context_units))
        # Follows the parameters to every precision; to look one of them up takes longer.
        self.register_buffer("_like", torch.zeros(0, **FACTORY_KWARGS), persistent=False)
        # The norm takes away the mean of all elements, turned to the angle 0.
        self.steering = (
            Chain([Steering(self.dim, self.context_angles), ActivationNorm(self.dim)])
            if self.context_angles
            else None
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Be copied and pickled as configuration and weights, for normalised weights cannot be.

        Hooks are not taken along.
        """
        learnt = {name for name, weight in self.named_parameters() if weight.requires_grad}
        kind = (self.dtype, self._like.device)
        return _rebuilt, (type(self), self.config, kind, self.state_dict(), learnt, self.training)

    @property
    def dim(self) -> int:
        """Dimension ``D`` of the latent vector."""
        return math.prod(self.event_shape)

    @property
    def is_affine(self) -> bool:
        """Whether data and latent vectors are affine functions of each other."""
        return self.preset in {"linear", "affine"}

    @property
    def is_continuous(self) -> bool:
        """Whether data are a continuous function of latent vectors."""
        return self.preset != "lattice"

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this flow again."""
        angles = {"context_angles": list(self.context_angles)} if self.context_angles else {}
        return {
            "event_shape": list(self.event_shape),
            "context_dim": self.context_dim,
            "preset": self.preset,
            **angles,
            **self.overrides,
        }

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map data to latent.

        Args:
            x: Data, shape ``(*B, *event)``.
            context: Labels, shape ``(*B, context_dim)``; required exactly if the flow has them.

        Returns:
            ``z`` of shape ``(*B, D)`` and ``log_det`` of shape ``(*B,)``, in nats; in the precision
            of the parameters, but float64 with ``lattice``.

        Raises:
            UserError: If a shape or dtype is not the expected one or a value is out of range.
        """
        batch, x, context = self._flattened("x", x, self.event_shape, self.dtype, context)
        # Torch's pixel shuffles fail on empty batches.
        if x.shape[0] == 0:
            return x.new_zeros(*batch, self.dim), x.new_zeros(batch)
        z, log_det = self.layers(x, self._encoded(context))
        if self.steering is not None:
            z, more = self.steering(z, context)
            log_det = log_det + more
        # A copy, for it may be a view of a parameter, once for each element.
        return z.reshape(*batch, self.dim), log_det.clone().reshape(batch)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map latent to data, exactly.

        Args:
            z: Latent vectors, shape ``(*B, D)``.
            context: Labels, shape ``(*B, context_dim)``; required exactly if the flow has them.

        Returns:
            ``x`` of shape ``(*B, *event)`` and the log-determinant of the inverse, ``(*B,)``.

        Raises:
            UserError: If a shape or dtype is not the expected one or a value is not finite.
        """
        latent_dtype = torch.float64 if self.preset == "lattice" else self.dtype
        batch, z, context = self._flattened("z", z, (self.dim,), latent_dtype, context)
        if z.shape[0] == 0:
            return z.new_zeros(*batch, *self.event_shape), z.new_zeros(batch)
        further: Tensor | float = 0.0
        if self.steering is not None:
            z, further = self.steering.inverse(z, context)
        x, log_det = self.layers.inverse(z, self._encoded(context))
        log_det = (log_det + further).reshape(batch)
        return x.to(self.dtype).reshape(*batch, *self.event_shape), log_det

    def initialise(self, x: Tensor, context: Tensor | None = None) -> None:
        """Set the scales of all layers from a batch ``(*B, *event)``, in place; see ``initialise``.

        Call it once, before training, with a batch of (at least some dozens of) training data.

        Raises:
            UserError: If there are fewer than two elements, or they are not what the flow takes.
        """
        _, x, context = self._flattened("x", x, self.event_shape, self.dtype, context)
        if x.shape[0] < 2:
            raise UserError(f"x: expected at least 2 elements to set scales from, got {len(x)}")
        initialise_from_data(self.layers, x, self._encoded(context))
        if self.steering is not None:
            with torch.no_grad():
                z, _ = self.layers(x, self._encoded(context))
            initialise_from_data(self.steering, z, context)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the parameters."""
        return self._like.dtype

    def _flattened(
        self,
        name: str,
        x: Tensor,
        event_shape: tuple[int, ...],
        dtype: torch.dtype,
        context: Tensor | None,
    ) -> tuple[torch.Size, Tensor, Tensor | None]:
        """Return the batch shape, and the checked input and context as (B, ...)."""
        if not torch.is_tensor(x) or not x.is_floating_point():
            kind = x.dtype if torch.is_tensor(x) else type(x).__name__
            hint = "; bruno.data.dequantise turns pixels into floats" if name == "x" else ""
            raise UserError(f"{name}: expected a floating-point tensor, got {kind}{hint}")
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

    def _encoded(self, context: Tensor | None) -> Tensor | None:
        """Return what couplings see of a context."""
        if self.context_encoder is None or context is None:
            return None
        encoded: Tensor = self.context_encoder(context[:, self._other_entries])
        return encoded

    def _checked_context(self, context: Tensor | None, batch: torch.Size) -> Tensor | None:
        if not self.context_dim:
            if context is not None:
                raise UserError("context: this model takes no context, but one was given")
            return None
        expected = (*batch, self.context_dim)
        if context is None:
            raise UserError(f"context: this model needs one of shape {expected}, got none")
        if not torch.is_tensor(context):
            raise UserError(f"context: expected a tensor, got {type(context).__name__}")
        if context.shape != expected or not context.is_floating_point():
            raise UserError(
                f"context: expected a floating-point tensor of shape {expected}, got "
                f"{context.dtype} {tuple(context.shape)}"
            )
        check_finite("context", context)
        return context.reshape(-1, self.context_dim).to(self.dtype)


def _rebuilt(
    cls: type[RealNVP],
    config: dict[str, Any],
    kind: tuple[torch.dtype, torch.device],
    weights: dict[str, Tensor],
    learnt: set[str],
    training: bool,
) -> RealNVP:
    """Return a flow that was taken apart by ``__reduce__``."""
    with torch.random.fork_rng(devices=[]):
        flow = cls(**config)
    flow.to(kind[1], kind[0]).load_state_dict(weights)
    for name, weight in flow.named_parameters():
        weight.requires_grad_(name in learnt)
    return flow.train(training)


def _checked_event_shape(event_shape: Sequence[int]) -> tuple[int, ...]:
    try:
        shape = tuple(operator.index(size) for size in event_shape)
    except TypeError:
        raise UserError(f"event_shape: expected (C, H, W) or (D,), got {event_shape!r}") from None
    if len(shape) == 3 and min(shape) > 0 and shape[1] % 2 == 0 and shape[2] % 2 == 0:
        return shape
    if len(shape) == 1 and shape[0] >= 1:
        return shape
    raise UserError(
        f"event_shape: expected (C, H, W) with even height and width, or (D,), got {shape}"
    )


def _overridden(architecture: Architecture, overrides: dict[str, Any]) -> Architecture:
    changes = dict(overrides)
    if "filters" in changes:
        filters = changes["filters"]
        widths = (
            (filters,) * len(architecture.filters) if isinstance(filters, int) else tuple(filters)
        )
        if len(widths) != len(architecture.filters):
            raise UserError(
                f"filters: expected one number or {len(architecture.filters)}, got {filters}"
            )
        changes["filters"] = widths
    lowest = {"residual_blocks": 0, "dense_couplings": 0, "dense_units": 1}
    for name, low in lowest.items():
        if changes.get(name, low) < low:
            raise UserError(f"{name}: expected at least {low}, got {changes[name]}")
    if min(changes.get("filters", (1,)), default=1) < 1:
        raise UserError(f"filters: expected positive widths, got {changes['filters']}")
    return replace(architecture, **changes)
