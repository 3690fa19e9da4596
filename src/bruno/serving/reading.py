"""Elements of requests, decoded away from the event loop and few at a time."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import torch
from torch import Tensor

from bruno.serving.elements import ElementFormat
from bruno.serving.schemas import ElementInput, ForgetTarget

# Pictures decoded at once: each may take a hundred megabytes.
_DECODERS = 1
_limiters: dict[str, anyio.CapacityLimiter] = {}


async def read_elements(
    form: ElementFormat, given: Sequence[ElementInput | ForgetTarget], name: str
) -> Tensor:
    """Return the elements of a request, ``(N, *event)``.

    Args:
        form: The form in which the model takes them.
        given: The elements.
        name: What errors call the list.

    Raises:
        UserError: If one of them cannot be used.
    """
    if all(one.image is None for one in given):  # quick
        return torch.stack([_read(form, one, f"{name}.{i}") for i, one in enumerate(given)])
    limiter = _limiters.setdefault("decoders", anyio.CapacityLimiter(_DECODERS))
    return await anyio.to_thread.run_sync(
        lambda: torch.stack([_read(form, one, f"{name}.{i}") for i, one in enumerate(given)]),
        limiter=limiter,
    )


def _read(form: ElementFormat, one: ElementInput | ForgetTarget, name: str) -> Tensor:
    if one.image is not None:
        return form.from_image(one.image, one.prepare, invert=one.invert, name=f"{name}.image")
    if one.strokes is not None:
        return form.from_strokes(one.strokes, f"{name}.strokes")
    return form.from_vector(one.vector or [], f"{name}.vector")
