import math

import pytest
import torch

from bruno import RealNVP, UserError
from bruno.flows.lattice import LatticeGaussianisation, group_levels
from bruno.flows.preprocessing import PixelGaussianisation
from bruno.seeding import generator_for
from tests.flows.test_preprocessing import mostly_black


def make_layer(channels=1, size=8, groups=7):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        layer = LatticeGaussianisation(channels, size, size, (4, 5), 1, groups=groups).double()
        layer.fit(mostly_black(100, channels, size, size))
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def nats(layer, x):
    """Return the negative log-likelihood of images whose latent is standard normal."""
    z, log_det = layer(x)
    return (0.5 * z.square() + 0.5 * math.log(2 * math.pi)).flatten(1).sum(1) - log_det


@pytest.mark.parametrize("channels", [1, 3])
def test_round_trip_and_log_determinant(channels):
    layer = make_layer(channels)
    x = mostly_black(4, channels, 8, 8, seed=1)
    z, log_det = layer(x)
    back, inverse_log_det = layer.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-9)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-10, atol=1e-8)
    log_det = log_det.detach()
    jacobian = torch.autograd.functional.jacobian(lambda v: layer(v[None])[0].flatten(), x[0])
    expected = torch.linalg.slogdet(jacobian.reshape(z[0].numel(), -1)).logabsdet
    assert float(log_det[0]) == pytest.approx(float(expected), abs=1e-8)


def test_single_precision_keeps_pixels_and_densities():
    layer = make_layer().float()
    x = mostly_black(500, 1, 8, 8, seed=2, dtype=torch.float32)
    # A quarter of the pixels lie on an edge of their grey level, a quarter just below the next.
    x[:, :, ::2, 1::2] = x[:, :, ::2, 1::2].floor()
    x[:, :, 1::2, ::2] = x[:, :, 1::2, ::2].floor() + 1 - 2**-16
    z, log_det = layer(x)
    assert z.dtype == torch.float64
    back, _ = layer.inverse(z)
    torch.testing.assert_close(back.floor(), x.double().floor(), rtol=0, atol=0)
    torch.testing.assert_close(back, x.double(), rtol=0, atol=1e-2)
    torch.testing.assert_close(log_det, layer.double()(x.double())[1], rtol=1e-4, atol=0.1)


@torch.no_grad()
def test_a_pixel_goes_through_its_whole_conditional_distribution():
    """Vary one pixel of the finest lattice, on which no other pixel depends."""
    layer = make_layer()
    images = mostly_black(1, 1, 8, 8, seed=3).repeat(257, 1, 1, 1)
    images[:, 0, 2, 3] = torch.arange(257).double()
    z, _ = layer(images)
    share = torch.special.ndtr(z[:, 0, 2, 3])
    assert float(share[0]) == pytest.approx(0, abs=1e-5)
    assert float(share[-1]) == pytest.approx(1, abs=1e-5)
    assert bool((share.diff() > 0).all())
    others = torch.ones(8, 8, dtype=torch.bool)
    others[2, 3] = False
    torch.testing.assert_close(z[:, 0, others], z[:1, 0, others].expand(257, -1), rtol=0, atol=0)
    # Within a grey level the density is even: it is the share of that level, but for the margins
    # that keep rounding from leaving a level.
    inside = images.clone()
    inside[:-1, 0, 2, 3] += 0.3
    change = nats(layer, inside)[:-1] - nats(layer, inside)[0]
    expected = -(share.diff().log() - share.diff()[0].log())
    torch.testing.assert_close(change, expected, rtol=1e-3, atol=0.02)


def test_coarser_lattices_do_not_depend_on_finer_ones():
    layer = make_layer()
    a, b = mostly_black(1, 1, 8, 8, seed=4), mostly_black(1, 1, 8, 8, seed=5)
    mixed = b.clone()
    mixed[..., ::2, ::2] = a[..., ::2, ::2]
    torch.testing.assert_close(layer(mixed)[0][..., ::2, ::2], layer(a)[0][..., ::2, ::2])
    assert not torch.allclose(layer(mixed)[0][..., 1::2, 1::2], layer(b)[0][..., 1::2, 1::2])


def test_what_coarser_pixels_tell_is_learnt():
    """Blocks of 4×4 equal pixels: only the coarsest lattice holds anything new."""
    coarse = mostly_black(200, 1, 2, 2, seed=6).floor()
    images = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)
    x = (images + torch.rand(images.shape, generator=generator_for(1))).float()
    layer = LatticeGaussianisation(1, 8, 8, (16, 16), 1, groups=8)
    layer.fit(x)
    start = nats(layer, x).mean().item()
    marginal = PixelGaussianisation()
    marginal.fit(x)
    assert start == pytest.approx(nats(marginal, x).mean().item(), rel=0.01)
    optimiser = torch.optim.Adam(layer.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        nats(layer, x).mean().backward()
        optimiser.step()
    assert nats(layer, x).mean().item() < 0.7 * start


def test_frequent_levels_are_groups_of_their_own():
    mass = torch.full((256,), 0.1 / 252)
    mass[[0, 40, 41, 200]] = torch.tensor([0.6, 0.1, 0.1, 0.1])
    groups = group_levels(mass, 12)
    assert int(groups[0]) == 0
    assert int(groups[-1]) == 11
    assert set(groups.diff().tolist()) == {0, 1}
    sizes = torch.bincount(groups)
    assert sizes[groups[[0, 40, 41, 200]]].tolist() == [1, 1, 1, 1]


def test_groups_without_any_pixel_do_no_harm():
    layer = LatticeGaussianisation(1, 8, 8, (4, 4), 1, groups=7)
    x = mostly_black(400, 1, 8, 8)
    layer.fit(torch.where(x < 128, x, x / 2))
    cost = nats(layer, x.float()).mean()
    cost.backward()
    for name, parameter in layer.named_parameters():
        # What lies behind the last layers, which start at zero, has no gradient yet.
        assert parameter.grad is not None, name
        assert bool(parameter.grad.isfinite().all()), name
    back, _ = layer.inverse(torch.randn(3, 1, 8, 8, generator=generator_for(2)))
    assert bool(((back >= 0) & (back <= 256)).all())


@pytest.mark.parametrize("size", [(1, 6, 8), (1, 8, 10)])
def test_sizes_that_cannot_be_halved_are_named(size):
    with pytest.raises(UserError, match="event_shape: expected a height and width that 4 divides"):
        RealNVP(size, preset="lattice")


def test_pixels_out_of_range_are_named():
    with pytest.raises(UserError, match=r"x: expected finite pixel values in \[0, 256\]"):
        make_layer()(torch.full((1, 1, 8, 8), -1.0).double())
