"""Sums of blocks and pixels given them: probabilities, exact recovery, parts trained apart."""

import itertools
import math

import pytest
import torch

from bruno import Bruno, ExchangeableGaussian, RealNVP, UserError
from bruno.data import dequantise
from bruno.data.glyphs import load_glyphs
from bruno.flows.block_sums import BlockSums, code_only, take_pixels
from bruno.flows.count_tables import CountTables, integer_shares
from bruno.flows.pixels_given_sums import PixelsGivenSums
from bruno.flows.reshape import Chain
from bruno.seeding import generator_for
from bruno.training import ObjectiveConfig
from bruno.training.objectives import Objective

SMALL = {"filters": 8, "couplings": 1, "dense_units": 8, "dense_couplings": 1, "pixel_units": 16}


def perturbed(module, seed=0, scale=0.2):
    generator = generator_for(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return module


def sums_flow(event_shape=(1, 28, 28), images=None):
    torch.manual_seed(0)
    flow = RealNVP(event_shape, preset="sums", **SMALL)
    if images is not None:
        flow.initialise(dequantise(images, generator_for(1)))
    return perturbed(flow, seed=2, scale=0.05)


@pytest.fixture(scope="module")
def glyphs():
    images = load_glyphs("test").images
    return images[:: len(images) // 300]


@pytest.mark.parametrize(
    ("least", "greatest"), [(0, 0), (3, 4), (0, 2), (5, 12), (0, 1020), (60, 510)]
)
def test_tables_are_distributions_and_their_numbers_are_found_again(least, greatest):
    tables = perturbed(CountTables(2, 7))
    number = torch.arange(least, greatest + 1).repeat(2, 1)
    table = torch.tensor([[0], [1]]).expand_as(number)
    span = torch.full_like(number, least), torch.full_like(number, greatest)
    share = integer_shares(tables.logits, table, number, *span)
    torch.testing.assert_close(share.mass.sum(1), torch.ones(2, dtype=torch.float64))
    assert bool((share.mass > 0).all())
    torch.testing.assert_close(share.below, share.mass.cumsum(1) - share.mass)
    for position in (0.001, 0.5, 0.999):
        lower = share.below + position * share.mass
        upper = share.above + (1 - position) * share.mass
        assert torch.equal(tables.numbers(table, lower, upper, *span), number)


def test_tables_count_what_they_are_fitted_to():
    tables = CountTables(1, 4)
    number = torch.tensor([0] * 600 + [5] * 300 + [10] * 100)
    table, least = torch.zeros_like(number), torch.zeros_like(number)
    tables.fit(table, number, least, least + 10)
    wanted = torch.tensor([0, 10])
    share = integer_shares(tables.logits, wanted * 0, wanted, wanted * 0, wanted * 0 + 10)
    torch.testing.assert_close(
        share.mass, torch.tensor([0.6, 0.1], dtype=torch.float64), atol=0.01, rtol=0
    )


@pytest.mark.parametrize(("index", "most"), [(0, 2040), (1, 1020), (2, 1020)])
def test_there_are_two_tables_for_every_doubling_of_a_sum(index, most):
    whole = torch.arange(2 * most + 1)
    layer = BlockSums(Chain([]), (1, 4, 4), pixel_units=4)
    table = layer._table_of(index, whole)
    assert table[0] == table[1]
    for number, found in zip(whole[1:].tolist(), table[1:].tolist(), strict=True):
        # The first table whose end, 2 most 2^((k - 15) / 2), is not exceeded, squared.
        fits = (k for k in range(16) if number**2 << (15 - k) <= (2 * most) ** 2)
        assert found == next(fits)


@pytest.mark.parametrize("total", [1, 3, 1017, 1019])
def test_the_pixels_of_a_block_have_probabilities_that_sum_to_one(total):
    network = perturbed(PixelsGivenSums(1, 2, 2, units=8)).double()
    values = range(max(0, total - 3 * 255), min(255, total) + 1)
    blocks = [
        (a, b, c, total - a - b - c)
        for a, b, c in itertools.product(values, repeat=3)
        if 0 <= total - a - b - c <= 255
    ]
    level = torch.zeros(len(blocks), 1, 4, 4, dtype=torch.long)
    level[:, 0, :2, :2] = torch.tensor(blocks).view(-1, 2, 2)
    mass = network(level).mass.flatten(1).prod(1)
    assert mass.sum().item() == pytest.approx(1, abs=1e-12)


def test_empty_and_full_blocks_are_certain():
    network = perturbed(PixelsGivenSums(2, 2, 2, units=8))
    for level in (0, 255):
        share = network(torch.full((1, 2, 4, 4), level))
        assert torch.equal(share.mass, torch.ones_like(share.mass))


@torch.no_grad()
@pytest.mark.parametrize("event_shape", [(1, 28, 28), (3, 8, 12)])
def test_grey_levels_come_back_exactly_in_single_precision(event_shape, glyphs):
    images = glyphs
    if event_shape[0] == 3:
        images = torch.randint(0, 256, (60, *event_shape), generator=generator_for(3)).byte()
    flow = sums_flow(event_shape, images)
    z, log_det = flow(dequantise(images, generator_for(4)))
    assert z.dtype == torch.float64
    back, inverse_log_det = flow.inverse(z)
    assert torch.equal(back.floor().byte(), images)
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-3, rtol=1e-5)


@torch.no_grad()
def test_samples_have_the_density_they_are_drawn_with():
    """The mean of 1 / density over samples of a block is the volume of all blocks, 256^16."""
    images = torch.randint(0, 256, (2000, 1, 4, 4), generator=generator_for(6)).byte()
    flow = sums_flow((1, 4, 4), images)
    model = Bruno(flow, ExchangeableGaussian.from_parameters(torch.ones(16), 0.0))
    x = model.prior().sample(20000, generator=generator_for(5))
    ratio = (-model.prior().log_prob(x) - 16 * math.log(256)).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=4 * float(ratio.std()) / math.sqrt(20000))
    assert float(ratio.std()) < 20


def test_the_code_alone_has_the_same_code_and_gradients(glyphs):
    flow = sums_flow(images=glyphs)
    take_pixels(flow, sums_flow(), "other")
    model = Bruno(flow, ExchangeableGaussian(784))
    correlation = torch.full((784,), 0.3)
    correlation[flow.code_dim :] = 0.0
    model.process.set_correlation(correlation)
    x = dequantise(glyphs[:12].view(3, 4, 1, 28, 28), generator_for(0))
    with code_only(frozen_pixels=True):
        z, _ = model(x)
    assert z.shape == (3, 4, 196)
    torch.testing.assert_close(z, model.encode(x)[..., :196], atol=0, rtol=0)
    gradients = []
    objective = Objective(model, ObjectiveConfig())
    for mode in (True, False):
        model.zero_grad()
        objective.train(mode)(x, 1).loss.backward()
        gradients.append({n: p.grad for n, p in flow.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert not any(".pixels." in name for name in gradients[0])
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-6, rtol=1e-4)


def test_networks_of_other_models_and_sizes_are_refused():
    flow = sums_flow((1, 8, 8))
    with pytest.raises(UserError, match=r"pixels_from: expected flows of sums .* x has none"):
        take_pixels(flow, RealNVP((1, 8, 8), filters=4), "x")
    with pytest.raises(UserError, match="and the model to train has none"):
        take_pixels(RealNVP((1, 8, 8), filters=4), flow, "x")
    with pytest.raises(UserError, match=r"1 x 8 x 8 .* x has one for 3 x 8 x 8"):
        take_pixels(flow, sums_flow((3, 8, 8)), "x")
    with pytest.raises(UserError, match=r"pixel_units 16, and x has one for .* with 8"):
        take_pixels(flow, RealNVP((1, 8, 8), preset="sums", **(SMALL | {"pixel_units": 8})), "x")
    with pytest.raises(UserError, match=r"height and width that 4 divides, got \(8, 10\)"):
        RealNVP((1, 8, 10), preset="sums")


def test_the_first_dimensions_of_a_process_are_a_process():
    process = ExchangeableGaussian.from_parameters(torch.tensor([1.0, 2.0]), 0.5)
    z = torch.randn(3, 4, 2, generator=generator_for(0))
    first = process.first(1)
    other = ExchangeableGaussian.from_parameters(torch.ones(1), 0.5)
    torch.testing.assert_close(first.log_prob(z[..., :1]), other.log_prob(z[..., :1]))
    first.log_prob(z[..., :1]).sum().backward()
    assert process.raw_variance.grad[0] != 0
    assert process.raw_variance.grad[1] == 0
    with pytest.raises(UserError, match="dim: expected 1 to 2 dimensions, got 3"):
        process.first(3)


def test_block_sums_know_their_code():
    flow = sums_flow((3, 8, 12))
    assert flow.code_dim == 72
    assert RealNVP((1, 8, 8), filters=4).code_dim == 64
    assert any(isinstance(layer, BlockSums) for layer in flow.modules())
