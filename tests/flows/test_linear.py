import numpy as np
import pytest
import torch
from scipy.fft import dctn

from bruno import RealNVP
from bruno.flows.affine import DiscreteCosineTransform, InvertibleConv1x1, LowRankAffine
from bruno.seeding import generator_for


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 3, 5)])
def test_cosine_transform_is_that_of_scipy_lowest_frequencies_first(shape):
    channels, height, width = shape
    x = torch.randn(7, *shape, generator=generator_for(0), dtype=torch.float64)
    transform = DiscreteCosineTransform(*shape).double()
    z, log_det = transform(x)
    rows, columns = np.indices((height, width))
    frequency = (rows / height) ** 2 + (columns / width) ** 2
    expected = dctn(x.numpy(), axes=(-2, -1), norm="ortho").reshape(7, channels, -1)
    expected = expected[:, :, np.argsort(frequency.ravel(), kind="stable")].swapaxes(1, 2)
    torch.testing.assert_close(z, torch.from_numpy(expected.reshape(7, -1)), rtol=0, atol=1e-12)
    assert torch.equal(log_det, torch.zeros(7, dtype=torch.float64))
    torch.testing.assert_close(transform.inverse(z)[0], x, rtol=0, atol=1e-12)


def test_equal_frequencies_keep_their_order_whatever_the_precision():
    order = DiscreteCosineTransform(1, 28, 28).order
    frequency = np.add.outer(np.arange(28) ** 2, np.arange(28) ** 2).ravel()
    assert order.tolist() == np.argsort(frequency, kind="stable").tolist()
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        assert torch.equal(DiscreteCosineTransform(1, 28, 28).order, order)
    finally:
        torch.set_default_dtype(before)


def test_a_convolution_of_vectors_is_that_of_images_of_one_pixel():
    layer = InvertibleConv1x1(5).double()
    x = torch.randn(3, 5, generator=generator_for(1), dtype=torch.float64)
    (of_vectors, log_det), (of_images, expected) = layer(x), layer(x[..., None, None])
    torch.testing.assert_close(of_vectors, of_images[..., 0, 0])
    torch.testing.assert_close(log_det, expected)
    torch.testing.assert_close(layer.inverse(of_vectors)[0], x)


@torch.no_grad()
def test_what_an_image_shows_does_not_depend_on_its_high_frequencies():
    """In the spectral flow the mixed dimensions see the low frequencies of normal pixels only."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP((1, 12, 12), preset="spectral", dense_units=8, dense_couplings=2).double()
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    pixels, transform = flow.layers.layers[:2]
    x = 256 * torch.rand(4, 1, 12, 12, generator=generator_for(2), dtype=torch.float64)
    frequencies, _ = transform(pixels(x)[0])
    frequencies[:, 64:] *= 0.5
    smoother, _ = pixels.inverse(transform.inverse(frequencies)[0])
    before, after = flow(x)[0], flow(smoother)[0]
    torch.testing.assert_close(after[:, :64], before[:, :64], rtol=0, atol=1e-4)
    assert not torch.allclose(after[:, 64:], before[:, 64:], atol=0.1)


def test_a_low_rank_map_takes_as_many_vectors_as_its_rank():
    with pytest.raises(ValueError, match=r"x: expected \(4, 9\), got \(3, 9\)"):
        LowRankAffine(9, 4).span(torch.zeros(3, 9))


@pytest.mark.parametrize("independent", [4, 2, 0])
def test_a_low_rank_map_turns_what_is_spanned_to_the_first_dimensions(independent):
    layer = LowRankAffine(9, 4).double()
    generator = generator_for(3)
    vectors = torch.randn(independent, 9, generator=generator, dtype=torch.float64)
    mixture = torch.randn(4, independent, generator=generator, dtype=torch.float64)
    x = mixture @ vectors
    left = layer.span(x)
    expected = torch.cat([left, torch.zeros(4, 5, dtype=torch.float64)], 1)
    torch.testing.assert_close(layer(x)[0], expected, rtol=0, atol=1e-12)
    rotation, _ = layer(torch.eye(9, dtype=torch.float64))
    identity = torch.eye(9, dtype=torch.float64)
    torch.testing.assert_close(rotation @ rotation.T, identity, rtol=0, atol=1e-12)
