"""Elements of requests, decoded away from the event loop and few at a time."""

from __future__ import annotations

from collections.abc import Sequence

import anyio
import torch
from torch import Tensor

from bruno.serving.elements import ElementFormat
from bruno.serving.schemas.elements import ElementInput
from bruno.serving.schemas.examples import ForgetTarget

# Pictures decoded at once: each may take a few hundred megabytes.
_DECODERS = 1


class ElementReader:
    """Reads the elements of requests.

    Args:
        form: The form in which the model takes them.
    """

    def __init__(self, form: ElementFormat) -> None:
        self._form = form
        self._decoders = anyio.CapacityLimiter(_DECODERS)

    async def read(self, given: Sequence[ElementInput | ForgetTarget], name: str) -> Tensor:
        """Return the elements of a request, ``(N, *event)``.

        Args:
            given: The elements.
            name: What errors call the list.

        Raises:
            UserError: If one of them cannot be used.
        """
        if all(one.image is None for one in given):  # quick
            return self._all(given, name)
        return await anyio.to_thread.run_sync(self._all, given, name, limiter=self._decoders)

    def _all(self, given: Sequence[ElementInput | ForgetTarget], name: str) -> Tensor:
        return torch.stack([self._one(one, f"{name}.{index}") for index, one in enumerate(given)])

    def _one(self, one: ElementInput | ForgetTarget, name: str) -> Tensor:
        if one.image is not None:
            return self._form.from_image(
                one.image, one.prepare, invert=one.invert, name=f"{name}.image"
            )
        if one.strokes is not None:
            return self._form.from_strokes(one.strokes, f"{name}.strokes")
        return self._form.from_vector(one.vector or [], f"{name}.vector")
