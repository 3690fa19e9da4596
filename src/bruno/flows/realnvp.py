"""Flows by name: the layers of a registered architecture, with context where it has some."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.flows.affine import ActivationNorm
from bruno.flows.architectures import ARCHITECTURES, Architecture
from bruno.flows.bijection import Bijection
from bruno.flows.context import (
    CONTEXT_UNITS,
    ContextRotation,
    EncodedContext,
    dimensions_to_rotate,
)
from bruno.flows.flow import Flow, checked_event_shape, leading_code_dim
from bruno.flows.reshape import Chain, IndexedSubset
from bruno.validation import check_choice, check_counts, check_whole


class RealNVP(Flow):
    r"""A flow of an architecture of :data:`~bruno.flows.architectures.ARCHITECTURES`, by name.

    - ``paper``: the flow of BRUNO (Korshunova et al., NeurIPS 2018, appendix): masked couplings
      with eight residual blocks at full resolution, then six dense couplings.
    - ``conditional-paper``: the flow of *Conditional BRUNO* (Korshunova et al., 2018): the same at
      three resolutions, with six residual blocks and narrower dense couplings; height and width
      must be multiples of 4. It starts as the identity behind the logit, with any context.
    - ``compact``: for CPUs: squeeze first, then few couplings with small networks at a half and a
      quarter of the resolution, mixed by invertible 1×1 convolutions, then dense couplings.
    - ``lattice``: a :class:`~bruno.flows.lattice.LatticeGaussianisation`, then the layers of
      ``compact`` on every second pixel along each axis, for a far better likelihood; height and
      width must be multiples of 4.
    - ``spectral``: marginal Gaussianisation, then the cosine transform; dense couplings mix its
      lowest frequencies, and all others are predicted from these. Trained for likelihood alone it
      classifies far better than the other flows.
    - ``sums``: an exact split into sums of blocks of pixels and the pixels given the sums
      (:class:`~bruno.flows.block_sums.BlockSums`), with spline couplings of the sums; height and
      width must be multiples of 4. Its samples resemble what was observed.
    - ``dense``: dense couplings only, for vectors (or images as vectors).
    - ``affine``, ``diagonal``: for vectors: any invertible affine map, or scales and shifts only.
      They are set from statistics of data rather than trained. With a ``rank``, ``affine``
      mixes a subspace of that dimension only, in O(D · rank).

    In all but the two flows of the papers a context also modulates the networks of the couplings.
    Latent dimensions rotate with angles named in ``context_angles``, behind all other layers
    (:class:`~bruno.flows.context.ContextRotation`); in all but ``sums`` these angles do not reach
    the couplings.

    A new flow is on the CPU, in float32, whatever torch's default device and dtype are; ``to``
    moves it.

    Args:
        event_shape: ``(C, H, W)`` or ``(D,)``.
        context_dim: Size of the context of each element in a conditional model; 0 for none.
        preset: Name of the architecture; by default ``compact`` for images, ``dense`` for vectors.
        context_angles: Positions, in the context, of the sines of angles to rotate latent
            dimensions by; the cosine is the next entry.
        sizes: Size parameters of the architecture, such as ``filters``, ``residual_blocks``,
            ``dense_units``, ``dense_couplings`` or ``rank``; ``None`` for its default.

    Raises:
        UserError: If the shape, the preset or a size is not one a flow can be built for.

    Example:
        >>> flow = RealNVP((1, 8, 8), filters=16)
        >>> x = 256 * torch.rand(3, 1, 8, 8)
        >>> z, log_det = flow(x)
        >>> z.shape, log_det.shape
        (torch.Size([3, 64]), torch.Size([3]))
        >>> torch.allclose(flow.inverse(z)[0], x, atol=1e-2)
        True
    """

    def __init__(
        self,
        event_shape: Sequence[int],
        context_dim: int = 0,
        preset: str | None = None,
        *,
        context_angles: Sequence[int] = (),
        **sizes: Any,
    ) -> None:
        shape = checked_event_shape(event_shape)
        name = preset or ("compact" if len(shape) == 3 else "dense")
        architecture = _found(name, shape, context_dim)
        overrides = {key: value for key, value in sizes.items() if value is not None}
        angles = _checked_angles(context_angles, context_dim, math.prod(shape))
        hidden = () if architecture.encodes_angles else (*angles, *(a + 1 for a in angles))
        encoded = [i for i in range(context_dim) if i not in hidden]
        layers = architecture.layers(
            shape, CONTEXT_UNITS if encoded else 0, architecture.sizes_from(name, overrides)
        )
        super().__init__(_with_context(layers, encoded, angles, shape), shape, context_dim)
        self.preset = name
        self.context_angles = angles
        self._overrides = overrides

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, *arguments: Any
    ) -> None:
        _use_current_names(state_dict, prefix)
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def __reduce__(self) -> tuple[Any, ...]:
        """Be copied and pickled as configuration and weights, for normalised weights cannot be.

        Hooks are not taken along.
        """
        learnt = {name for name, weight in self.named_parameters() if weight.requires_grad}
        kind = (self.dtype, self._like.device)
        return _rebuilt, (type(self), self.config, kind, self.state_dict(), learnt, self.training)

    @property
    def name(self) -> str:
        """The preset, for messages."""
        return f"{self.preset!r} flow"

    @property
    def config(self) -> dict[str, Any]:
        """Keyword arguments that build this flow again."""
        angles = {"context_angles": list(self.context_angles)} if self.context_angles else {}
        return {
            "event_shape": list(self.event_shape),
            "context_dim": self.context_dim,
            "preset": self.preset,
            **angles,
            **self._overrides,
        }


def _with_context(
    layers: list[Bijection],
    encoded: list[int],
    angles: tuple[int, ...],
    event_shape: tuple[int, ...],
) -> list[Bijection]:
    """Return layers that take the raw context of an element, given those for its encoding."""
    if encoded or angles:
        layers = [EncodedContext(encoded, Chain(layers))]
    if angles:
        dim = math.prod(event_shape)
        code_dim = leading_code_dim(layers, dim)
        # The norm removes the mean of all elements, rotated to the angle 0.
        turned: list[Bijection] = [ContextRotation(code_dim, angles), ActivationNorm(code_dim)]
        layers += turned if code_dim == dim else [IndexedSubset(code_dim, Chain(turned))]
    return layers


def _use_current_names(state: dict[str, Any], prefix: str) -> None:
    """Rename, in place, the tensors of conditional flows in files of format version 1."""
    old = (f"{prefix}context_encoder.", f"{prefix}steering.layers.")
    if not any(name.startswith(old) for name in state):
        return
    first = f"{prefix}layers.layers.0"
    renamed = {}
    for name in list(state):
        if name.startswith(old[0]):
            new = f"{first}.encoder.{name.removeprefix(old[0])}"
        elif name.startswith(old[1]):
            # The rotation and its norm now follow the one layer that contains all others.
            index, _, rest = name.removeprefix(old[1]).partition(".")
            new = f"{prefix}layers.layers.{int(index) + 1}.{rest}"
        else:
            new = f"{first}.inner.{name.removeprefix(f'{prefix}layers.')}"
        renamed[new] = state.pop(name)
    state.update(renamed)


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


def _found(name: str, event_shape: tuple[int, ...], context_dim: int) -> Architecture:
    """Return the architecture of a name, if it takes such elements and such a context."""
    check_choice("preset", name, ARCHITECTURES)
    architecture = ARCHITECTURES[name]
    if len(event_shape) == 1 and not architecture.takes_vectors:
        others = (key for key, value in ARCHITECTURES.items() if value.takes_vectors)
        raise UserError(
            f"preset: {name!r} is for images; vectors of shape {event_shape} take "
            f"{', '.join(others)}"
        )
    if len(event_shape) == 3 and not architecture.takes_images:
        raise UserError(f"preset: {name!r} is for vectors, got images of shape {event_shape}")
    check_whole("context_dim", context_dim, 0)
    if context_dim and not architecture.takes_context:
        raise UserError(f"context_dim: expected 0 with preset {name!r}, got {context_dim}")
    return architecture


def _checked_angles(angles: Sequence[int], context_dim: int, dim: int) -> tuple[int, ...]:
    check_counts("context_angles", angles, 0)
    entries = [entry for start in angles for entry in (start, start + 1)]
    if len(set(entries)) < len(entries) or not set(entries) <= set(range(context_dim)):
        raise UserError(
            "context_angles: expected positions of the sines of angles, each followed by its "
            f"cosine, among the {context_dim} numbers of a context, got {list(angles)}"
        )
    least = dimensions_to_rotate(len(angles)) if angles else 0
    if dim < least:
        raise UserError(
            f"context_angles: expected at least {least} dimensions to rotate by {len(angles)} "
            f"angles, got {dim}"
        )
    return tuple(angles)
