"""Views of an object from other sides, by a conditional model."""

from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from bruno.data.context import ContextFeature, encode_context
from bruno.data.sets import quantise
from bruno.model import Bruno
from bruno.serving.elements import ElementFormat
from bruno.serving.settings import VIEWS_MODEL
from bruno.training.locate import locate_model

PHOTOS = Path(__file__).parent / "photos"
"""Photos to try, which ``python benchmarks/serving_examples.py`` writes."""

_PHOTO_SCALE = 8


class ViewsModel:
    """A conditional model, loaded when it is first asked.

    Args:
        max_pixels: Largest number of pixels of a picture.
        device: Where it runs.
    """

    def __init__(self, max_pixels: int, device: str) -> None:
        self._max_pixels = max_pixels
        self._device = device
        self._lock = threading.Lock()
        self._loaded: tuple[Bruno, tuple[ContextFeature, ...]] | None = None

    def views(
        self, image: str, azimuths: Sequence[float], latent_scale: float, seed: int, *, invert: bool
    ) -> tuple[Tensor, Tensor]:
        """Return a picture as the model sees it, and views of its object.

        All views are drawn with the same noise, so that an object keeps its looks as it turns.

        Args:
            image: The picture in base64.
            azimuths: Degrees from it, one for each view.
            latent_scale: 1 for exact samples, 0 for the image of the mean.
            seed: Seed.
            invert: Turn dark on white into bright on black.

        Returns:
            uint8 ``(1, H, W)`` and ``(N, 1, H, W)``.

        Raises:
            UserError: If it is no picture.
        """
        with self._lock:  # one at a time: these passes are long
            model, features = self._model()
            form = ElementFormat(model.event_shape, None, self._max_pixels)
            given = form.from_image(image, "none", invert=invert, name="image")
            (feature,) = features
            angles = torch.tensor([0.0, *azimuths], device="cpu", dtype=torch.float64)
            context = encode_context(features, {feature.name: angles}).to(model.device)
            with torch.no_grad():
                seen = model.condition(given[None].to(model.device), context[:1])
                generator = torch.Generator("cpu").manual_seed(seed)
                z = model.process.sample(seen.evidence, (1,), generator, latent_scale)
                drawn = model.decode(z.expand(len(azimuths), -1), context[1:])
            return given, quantise(drawn.cpu())

    def _model(self) -> tuple[Bruno, tuple[ContextFeature, ...]]:
        if self._loaded is None:
            located = locate_model(None, VIEWS_MODEL)
            model = located.load().requires_grad_(False).to(self._device)
            self._loaded = model, located.context_features
        return self._loaded


def example_photo(number: int) -> bytes:
    """Return a PNG of an object that the model was not trained on.

    Args:
        number: Which; they come round again.
    """
    photos = sorted(PHOTOS.glob("*.png"))
    with Image.open(photos[number % len(photos)]) as image:
        size = image.width * _PHOTO_SCALE
        buffer = io.BytesIO()
        image.resize((size, size), Image.Resampling.BICUBIC).save(buffer, format="PNG")
    return buffer.getvalue()
