"""Random deformation of small images, one of its own for every image."""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F  # noqa: N812 (PyTorch's own convention)
from torch import Tensor

from bruno.errors import UserError
from bruno.seeding import uniform
from bruno.validation import check_generator, check_number, check_tensor, check_type

# More is taken for an angle in degrees; nothing would be left of the image.
_MOST_SHEAR, _MOST_ANGLE = 2, 63


@dataclass(frozen=True)
class Augmentation:
    """Ranges of random deformations; zero switches one off.

    Attributes:
        degrees: Largest angle of rotation, either way, in degrees.
        scale: Largest relative change of size: 0.1 draws a factor from 1/1.1 to 1.1.
        shear: Largest horizontal slant, either way, in pixels per vertical pixel.
        translate: Largest shift, either way and along either axis, in pixels.
        elastic: Standard deviation of the smooth random bending, in pixels.
        elastic_smoothness: Distance over which the bending changes, in pixels.
    """

    degrees: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    translate: float = 0.0
    elastic: float = 0.0
    elastic_smoothness: float = 7.0

    def __post_init__(self) -> None:
        for field in fields(self):
            check_number(
                field.name,
                getattr(self, field.name),
                "a number of at least 0",
                lambda value: 0 <= value < math.inf,
            )
        check_number(
            "shear",
            self.shear,
            f"at most {_MOST_SHEAR} pixels per pixel (an angle of {_MOST_ANGLE} degrees)",
            lambda slant: slant <= _MOST_SHEAR,
        )
        check_number(
            "elastic_smoothness",
            self.elastic_smoothness,
            "at least 1 pixel",
            lambda pixels: pixels >= 1,
        )

    @property
    def is_identity(self) -> bool:
        """Whether every deformation is off."""
        return not any((self.degrees, self.scale, self.shear, self.translate, self.elastic))


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Deform every image by a random affine map and a random smooth bending of its own.

    Args:
        images: uint8 ``(B, C, H, W)``.
        augmentation: How far.
        generator: Source of randomness, on the CPU.

    Returns:
        uint8 of the same shape; areas from outside the image are black.

    Raises:
        UserError: If ``images`` are not uint8 of four dimensions.
    """
    check_tensor("images", images)
    check_type("augmentation", augmentation, Augmentation)
    check_generator("generator", generator)
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UserError(
            f"images: expected a uint8 tensor (B, C, H, W), got {images.dtype} "
            f"{tuple(images.shape)}"
        )
    if augmentation.is_identity or images.numel() == 0:
        return images
    batch, _, height, width = images.shape
    half = torch.tensor([width / 2, height / 2], device=generator.device, dtype=torch.float32)
    # `affine` acts on pixels, the grid is in units of half an image, hence the two changes of unit.
    affine = _affine_maps(batch, augmentation, generator)
    affine[:, :, :2] *= half / half[:, None]
    affine[:, :, 2] /= half
    grid = F.affine_grid(affine, [batch, 1, height, width], align_corners=False)
    if augmentation.elastic:
        grid = grid + _bending(batch, height, width, augmentation, generator) / half
    deformed = F.grid_sample(images.float(), grid.to(images.device), align_corners=False)
    return deformed.round_().clamp_(0, 255).to(torch.uint8)


def _affine_maps(batch: int, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Return maps from a pixel of the result to one of the image, ``(batch, 2, 3)``, (x, y)."""
    angle, size, slant, right, down = 2 * uniform((5, batch), generator) - 1
    angle = angle * math.radians(augmentation.degrees)
    size = (size * math.log1p(augmentation.scale)).exp()
    slant = slant * augmentation.shear
    cosine, sine = angle.cos() * size, angle.sin() * size
    rows = [
        torch.stack([cosine, cosine * slant - sine, right * augmentation.translate], dim=-1),
        torch.stack([sine, sine * slant + cosine, down * augmentation.translate], dim=-1),
    ]
    return torch.stack(rows, dim=1)


def _bending(
    batch: int, height: int, width: int, augmentation: Augmentation, generator: torch.Generator
) -> Tensor:
    """Return smooth random displacements in pixels, ``(batch, height, width, 2)``."""
    smoothness = augmentation.elastic_smoothness
    across, along = (_smoother(size, smoothness, generator.device) for size in (height, width))
    knots = (batch, 2, across.shape[1], along.shape[1])
    noise = torch.randn(knots, generator=generator, device=generator.device, dtype=torch.float32)
    field = across @ noise @ along.T
    return augmentation.elastic * field.permute(0, 2, 3, 1)


def _smoother(size: int, smoothness: float, device: torch.device) -> Tensor:
    """Return weights ``(size, knots)`` that turn independent noise into smooth noise of variance 1.

    The knots lie half a ``smoothness`` apart, well within the reach of the Gaussian of this width
    that spreads each of them, so the bending has no preferred places.
    """
    reach = 2 * math.ceil(smoothness)
    knots = torch.arange(-reach, size + reach, smoothness / 2, device=device, dtype=torch.float32)
    pixels = torch.arange(size, device=device, dtype=torch.float32)[:, None]
    weights = torch.exp(-0.5 * ((pixels - knots) / (smoothness / 1.5)) ** 2)
    smoother: Tensor = weights / weights.norm(dim=1, keepdim=True)
    return smoother
