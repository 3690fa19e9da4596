"""Elementary forms of special functions, against scipy and torch."""

import torch
from scipy import special

from bruno.export.decompositions import (
    convolution,
    elu,
    gelu,
    lgamma,
    ndtr,
    ndtri,
    pixel_shuffle,
    searchsorted,
)
from bruno.seeding import generator_for


def close(found, expected, relative):
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=relative, atol=0)


def test_normal_distribution_function_has_its_digits_in_the_tail():
    x = torch.linspace(-37, 37, 2001, dtype=torch.float64)
    close(ndtr(x), special.ndtr(x.numpy()), 5e-13)
    near = torch.linspace(-6, 6, 2001, dtype=torch.float64)
    close(ndtr(near), special.ndtr(near.numpy()), 1e-14)


def test_normal_quantiles():
    tails = torch.logspace(-300, -1, 1001, dtype=torch.float64)
    centre = torch.linspace(0.01, 0.999999, 1000, dtype=torch.float64)
    p = torch.cat([tails, centre])
    torch.testing.assert_close(ndtri(p), torch.as_tensor(special.ndtri(p)), rtol=1e-14, atol=1e-16)


def test_log_gamma():
    a = torch.cat([torch.linspace(0.5, 50, 500), torch.logspace(1, 8, 500)]).double()
    expected = torch.as_tensor(special.gammaln(a.numpy()))
    torch.testing.assert_close(lgamma(a), expected, rtol=1e-13, atol=1e-13)


def test_double_precision_convolution_and_elu():
    generator = generator_for(0)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)  # noqa: E731
    x, weight, bias = draw(2, 3, 6, 7), draw(5, 3, 3, 3), draw(5)
    expected = torch.nn.functional.conv2d(x, weight, bias, padding=1)
    found = convolution(x, weight, bias, padding=1)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(elu(x), torch.nn.functional.elu(x))
    assert elu(x.float()) is NotImplemented
    torch.testing.assert_close(gelu(x), torch.nn.functional.gelu(x), rtol=1e-13, atol=1e-16)
    assert gelu(x.float()) is NotImplemented
    assert convolution(x.float(), weight, bias, padding=1) is NotImplemented


def test_searchsorted():
    ends, values = torch.tensor([1.0, 2.0, 2.0, 5.0]), torch.tensor([[0.0, 2.0], [5.0, 7.0]])
    for right in (False, True):
        expected = torch.searchsorted(ends, values, right=right)
        assert torch.equal(searchsorted(ends, values, right=right), expected)


def test_blocks_of_whole_pixels():
    x = torch.arange(2 * 8 * 3 * 5).view(2, 8, 3, 5)
    assert torch.equal(pixel_shuffle(x, 2), torch.nn.functional.pixel_shuffle(x, 2))
    assert pixel_shuffle(x.float(), 2) is NotImplemented
