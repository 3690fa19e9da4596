"""A model by name, for workers that load it themselves."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from bruno.errors import UserError
from bruno.model import Bruno
from bruno.pretrained import locate, read_config


@dataclass(frozen=True)
class Embedder:
    """A model by name, which every worker loads for itself.

    Attributes:
        model: Directory of a saved model, or the name of one that comes with the package.
        weights_sha256: SHA-256 of its weights where the job was started; a worker that finds
            others refuses.
    """

    model: str
    weights_sha256: str

    @classmethod
    def of(cls, model: str | Path) -> Embedder:
        """Return the embedder of a saved model.

        Args:
            model: Directory of the model, or the name of one that comes with the package.

        Raises:
            UserError: If there is no such model.
        """
        return cls(str(model), str(read_config(locate(model))["weights_sha256"]))

    def load(self) -> Bruno:
        """Return the model, which a process loads once.

        Raises:
            UserError: If its weights are not those that the job was started with.
        """
        found = str(read_config(locate(self.model))["weights_sha256"])
        if found != self.weights_sha256:
            raise UserError(
                f"model: expected weights {self.weights_sha256[:12]}, this worker has "
                f"{found[:12]} in {self.model}"
            )
        return _loaded(self.model, found)

    @torch.no_grad()
    def embed(self, images: np.ndarray) -> np.ndarray:
        """Return the latent vectors of elements, ``(N, *event)`` or flat, as ``(N, D)``.

        Args:
            images: Elements as :meth:`~bruno.model.Bruno.encode` takes them.
        """
        model = self.load()
        x = torch.from_numpy(np.require(images, requirements=["C", "W"])).reshape(
            -1, *model.event_shape
        )
        return model.encode(x if len(model.event_shape) == 3 else x.double()).double().numpy()


@lru_cache(maxsize=2)
def _loaded(model: str, _weights: str) -> Bruno:
    return Bruno.from_pretrained(model).requires_grad_(requires_grad=False)
