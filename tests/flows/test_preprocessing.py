import pytest
import scipy.stats
import torch

from bruno import UserError
from bruno.flows.preprocessing import LEVELS, PixelGaussianisation, PixelLogit
from bruno.seeding import generator_for

LAYERS = {"logit": PixelLogit, "gaussianisation": PixelGaussianisation}
layers = pytest.mark.parametrize("name", LAYERS)


def mostly_black(*shape, seed=0, dtype=torch.float64):
    """Return dequantised images of which four pixels in five are black, one in ten is white."""
    generator = generator_for(seed)
    u = torch.rand(shape, generator=generator)
    levels = torch.randint(1, 255, shape, generator=generator)
    levels = torch.where(u < 0.8, 0, torch.where(u > 0.9, 255, levels))
    return levels.to(dtype) + torch.rand(shape, generator=generator, dtype=dtype)


def make(name):
    layer = LAYERS[name]()
    if isinstance(layer, PixelGaussianisation):
        layer.fit(mostly_black(100, 1, 8, 8))
    return layer


@layers
def test_round_trip_and_log_determinant(name):
    layer = make(name)
    x = mostly_black(5, 1, 6, 6, seed=1).requires_grad_()
    z, log_det = layer(x)
    (slope,) = torch.autograd.grad(z.sum(), x)
    torch.testing.assert_close(slope.log().flatten(1).sum(1), log_det, rtol=1e-9, atol=1e-8)
    z = z.detach().requires_grad_()
    back, inverse_log_det = layer.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-10)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-10, atol=1e-8)
    (slope,) = torch.autograd.grad(back.sum(), z)
    torch.testing.assert_close(slope.log().flatten(1).sum(1), inverse_log_det, atol=1e-8, rtol=1e-9)


@layers
def test_single_precision_keeps_pixels_and_densities(name):
    layer = make(name)
    x = mostly_black(5, 1, 28, 28, dtype=torch.float32)
    z, log_det = layer(x)
    assert z.dtype == log_det.dtype == torch.float32
    torch.testing.assert_close(layer.inverse(z)[0] / 256, x / 256, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_det.double(), layer(x.double())[1], rtol=1e-5, atol=0.01)


@layers
def test_the_edges_are_valid_and_every_latent_has_an_image(name):
    layer = make(name)
    edges = torch.tensor([0.0, 1.0, 255.0, 256.0]).double().view(1, 1, 2, 2)
    z, log_det = layer(edges)
    assert bool(z.isfinite().all())
    assert bool(log_det.isfinite().all())
    assert bool((z.flatten().diff() > 0).all())
    x, _ = layer.inverse(torch.tensor([-50.0, -5.0, 5.0, 50.0]).double().view(1, 1, 2, 2))
    assert bool(((x >= 0) & (x <= 256)).all())


def test_gaussianised_pixels_are_standard_normal():
    layer = PixelGaussianisation(smoothing=1e-4)
    x = mostly_black(400, 1, 8, 8)
    layer.fit(x)
    z = layer(x)[0].flatten()
    assert scipy.stats.kstest(z.numpy(), "norm").pvalue > 1e-3


def test_gaussianisation_has_the_density_of_the_grey_levels():
    """Under a standard normal, the density of a pixel is the share of its level."""
    layer = make("gaussianisation")
    x = mostly_black(3, 1, 4, 4, seed=2)
    z, log_det = layer(x)
    log_density = (-0.5 * z.square() - 0.5 * torch.log(torch.tensor(2 * torch.pi))).sum((1, 2, 3))
    expected = layer.mass.double()[x.long()].log().sum((1, 2, 3))
    torch.testing.assert_close(log_density + log_det, expected, rtol=1e-4, atol=1e-3)
    assert float(layer.mass.sum()) == pytest.approx(1.0)
    assert float(layer.mass.min()) >= 0.0199 / LEVELS


@layers
@pytest.mark.parametrize("value", [-0.01, 256.01, float("nan"), float("inf")])
def test_pixels_out_of_range_are_named(name, value):
    with pytest.raises(UserError, match=r"x: expected finite pixel values in \[0, 256\]"):
        LAYERS[name]()(torch.full((1, 1, 2, 2), value))
    with pytest.raises(UserError, match="expected finite pixel values"):
        PixelGaussianisation().fit(torch.full((1, 1, 2, 2), value))
