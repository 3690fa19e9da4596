import pytest
import torch

from bruno.data import Augmentation, augment
from bruno.errors import UserError
from bruno.seeding import generator_for

STRONG = Augmentation(degrees=15, scale=0.1, shear=0.2, translate=2, elastic=0.8)


def disc(batch=64, size=28, radius=6.0):
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    away = ((row - 13.5) ** 2 + (column - 13.5) ** 2).sqrt()
    image = (255 * (radius + 0.5 - away).clamp(0, 1)).to(torch.uint8)
    return image.expand(batch, 1, size, size).clone()


def centre_of_mass(images):
    mass = images.double()[:, 0]
    place = torch.arange(images.shape[-1]).double()
    total = mass.sum((1, 2))
    down, right = (mass.sum(2) * place).sum(1) / total, (mass.sum(1) * place).sum(1) / total
    return torch.stack([down, right], dim=1)


def test_keeps_shape_and_differs_from_image_to_image():
    images = disc(batch=5).expand(5, 3, 28, 28)
    deformed = augment(images, STRONG, generator_for(0))
    assert deformed.shape == images.shape
    assert deformed.dtype == torch.uint8
    assert len({bytes(image.numpy().tobytes()) for image in deformed}) == 5
    # The channels of one image are deformed alike.
    assert deformed[:, 0].equal(deformed[:, 2])


def test_depends_on_the_generator_alone():
    images = disc(4)
    first, again = (augment(images, STRONG, generator_for(7)) for _ in range(2))
    assert first.equal(again)
    assert not first.equal(augment(images, STRONG, generator_for(8)))


def test_off_is_the_identity():
    images = disc(3)
    assert augment(images, Augmentation(), generator_for(0)).equal(images)
    assert augment(images[:0], STRONG, generator_for(0)).shape == (0, 1, 28, 28)


def test_translation_is_in_pixels():
    moved = augment(disc(500), Augmentation(translate=3), generator_for(0))
    shift = centre_of_mass(moved) - 13.5
    assert shift.abs().max() <= 3.01
    # Uniform between -3 and 3: standard deviation 3 / sqrt(3).
    assert shift.std(0) == pytest.approx([3**0.5, 3**0.5], rel=0.1)


def test_scale_changes_the_area():
    area = augment(disc(500), Augmentation(scale=0.25), generator_for(0)).float().sum((1, 2, 3))
    ratio = area / disc(1).float().sum()
    assert ratio.min() == pytest.approx(1 / 1.25**2, rel=0.03)
    assert ratio.max() == pytest.approx(1.25**2, rel=0.03)


def test_rotation_is_in_degrees_and_keeps_aspect_in_oblong_images():
    images = torch.zeros(200, 1, 21, 41, dtype=torch.uint8)
    images[:, :, 10, 10:31] = 255
    turned = augment(images, Augmentation(degrees=30), generator_for(0)).float()
    row, column = torch.meshgrid(torch.arange(21) - 10.0, torch.arange(41) - 20.0, indexing="ij")
    moments = [(turned[:, 0] * m).sum((1, 2)) for m in (row * column, column**2 - row**2)]
    angle = torch.rad2deg(0.5 * torch.atan2(2 * moments[0], moments[1])).abs()
    assert angle.max() == pytest.approx(30, abs=1.5)


def test_bending_has_the_stated_size():
    # A single bright pixel column moves by the horizontal bending at its place.
    moved = augment(disc(500, radius=2.0), Augmentation(elastic=1.5), generator_for(0))
    shift = centre_of_mass(moved) - 13.5
    assert shift.std(0) == pytest.approx([1.5, 1.5], rel=0.25)


def test_fills_with_black():
    white = torch.full((50, 1, 28, 28), 255, dtype=torch.uint8)
    moved = augment(white, Augmentation(translate=4), generator_for(0))
    assert (moved.amin((1, 2, 3)) < 255).all()
    assert (moved == 0).any()


@pytest.mark.parametrize("field", ["degrees", "scale", "shear", "translate", "elastic"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_impossible_amounts(field, value):
    with pytest.raises(UserError, match=f"^{field}: expected a number of at least 0"):
        Augmentation(**{field: value})


def test_impossible_smoothness_and_images():
    with pytest.raises(UserError, match="shear: expected at most 2 pixels per pixel"):
        Augmentation(shear=15)
    with pytest.raises(UserError, match="elastic_smoothness: expected at least 1 pixel"):
        Augmentation(elastic_smoothness=0)
    with pytest.raises(UserError, match=r"images: expected a uint8 tensor \(B, C, H, W\)"):
        augment(torch.zeros(1, 28, 28), STRONG, generator_for(0))
