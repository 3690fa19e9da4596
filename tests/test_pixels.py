from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bruno import (
    Bruno,
    BrunoClassifier,
    BrunoDensity,
    ExchangeableGaussian,
    RealNVP,
    UserError,
    few_shot,
)
from bruno.data import dequantise, quantise
from bruno.pixels import as_pixels
from bruno.seeding import generator_for
from tests.fuzzing import fuzz_settings

EVENT = (1, 4, 4)
DTYPES = (
    torch.uint8,
    torch.int16,
    torch.uint16,
    torch.int32,
    torch.int64,
    torch.bfloat16,
    torch.float16,
    torch.float32,
    torch.float64,
)
IMAGES = torch.randint(0, 256, (12, *EVENT), generator=generator_for(0)).to(torch.uint8)
LABELS = torch.arange(12) % 3
BLACK = torch.zeros(2, *EVENT, dtype=torch.uint8)


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP(EVENT, filters=4, dense_units=4, dense_couplings=2)
        for parameter in flow.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
    covariance = torch.linspace(0.1, 0.9, flow.dim)
    return Bruno(flow, ExchangeableGaussian.from_parameters(torch.ones(flow.dim), covariance))


@cache
def density_estimator(model):
    return BrunoDensity(model).fit(IMAGES.numpy())


ENTRANCES = {
    "encode": lambda model, x: model.encode(x),
    "log_prob": lambda model, x: model.log_prob(x),
    "predictive_log_prob": lambda model, x: model.predictive_log_prob(x),
    "condition": lambda model, x: model.condition(x).evidence.mean,
    "observe": lambda model, x: model.prior().observe(x).evidence.mean,
    "observe one": lambda model, x: model.prior().observe(x[0]).evidence.mean,
    "forget": lambda model, x: model.condition(IMAGES).forget(x[:5]).evidence.mean,
    "density": lambda model, x: model.condition(IMAGES[:3]).log_prob(x),
    "support": lambda model, x: few_shot.classify(model, x, LABELS, IMAGES)[0],
    "query": lambda model, x: few_shot.classify(model, IMAGES, LABELS, x)[0],
    "classifier": lambda model, x: torch.from_numpy(
        BrunoClassifier(model, temperature=1.0)
        .fit(x.double().numpy(), LABELS.numpy())
        .predict_log_proba(IMAGES.numpy())
    ),
    "density estimator": lambda model, x: torch.from_numpy(
        density_estimator(model).score_samples(x.flatten(1).double().numpy())
    ),
}
entrances = pytest.mark.parametrize("enter", ENTRANCES.values(), ids=ENTRANCES)


@entrances
@torch.no_grad()
def test_whole_numbers_of_any_kind_mean_the_same_to_the_last_bit(model, enter):
    middle = enter(model, dequantise(IMAGES, None))
    for dtype in DTYPES:
        assert enter(model, IMAGES.to(dtype)).equal(middle), dtype


MASK = IMAGES > 128
SCALED = r"as of pixels scaled to 0\.\.1; multiply by 255 and round"
OUTSIDE = r"or dequantised pixels in \[0, 256\], got float"
WRONG = {
    "scaled": (IMAGES / 255, SCALED),
    "scaled to the brightest": (IMAGES / IMAGES.max(), SCALED),
    "scaled and halved": (IMAGES.double() / 255 / 2, SCALED),
    "divided by 256": (IMAGES / 256, SCALED),
    "noise up to 1": (torch.rand(12, *EVENT, generator=generator_for(1)), SCALED),
    "grey": (torch.full((12, *EVENT), 0.7), SCALED),
    "floats of a mask": (MASK.float(), "got only 0 and 1, as in a mask; multiply by 255"),
    "doubles of a mask": (MASK.double(), "got only 0 and 1, as in a mask; multiply by 255"),
    "from -1 to 1": (IMAGES / 127.5 - 1, OUTSIDE),
    "standardised": ((IMAGES.float() - 130) / 70, OUTSIDE),
    "16 bits": (IMAGES.float() * 257, OUTSIDE),
    "whole numbers up to 256": (256.0 * MASK, OUTSIDE),
}


@entrances
@pytest.mark.parametrize(("x", "message"), WRONG.values(), ids=WRONG)
@torch.no_grad()
def test_pixels_of_the_wrong_kind_are_refused(model, enter, x, message):
    expected = "(x|X|support|query): expected grey levels, whole numbers from 0 to 255"
    with pytest.raises(UserError, match=f"^{expected}.*{message}"):
        enter(model, x)


def test_integers_and_booleans_of_the_wrong_kind_are_refused(model):
    for x, message in [
        (MASK, "got booleans; multiply by 255"),
        (MASK.to(torch.uint8), "got only 0 and 1, as in a mask"),
        (MASK.to(torch.int64), "got only 0 and 1, as in a mask"),
        (IMAGES.int() * 257, r"got int32 from \d+ to \d+"),
        (IMAGES.int() - 300, r"got int32 from -\d+ to -\d+"),
    ]:
        with pytest.raises(UserError, match=f"^x: expected grey levels, whole .*{message}"):
            model.log_prob(x)
    for mask in (MASK.numpy(), MASK.flatten(1).numpy().astype(np.uint8)):
        with pytest.raises(UserError, match=r"^X: expected grey levels.* got only 0 and 1"):
            BrunoClassifier(model).fit(mask, LABELS.numpy())
    fitted = BrunoClassifier(model, temperature=1.0).fit(IMAGES.numpy(), LABELS.numpy())
    for update in (fitted.partial_fit, fitted.forget):
        with pytest.raises(UserError, match=r"^X: expected grey levels.* got only 0 and 1"):
            update(MASK[:1].numpy(), LABELS[:1].numpy())


def test_levels_beside_scaled_pixels_are_refused(model):
    with pytest.raises(UserError, match=r"^query: expected grey levels"):
        few_shot.classify(model, IMAGES, LABELS, IMAGES / 255)
    with pytest.raises(UserError, match=r"^support: expected grey levels"):
        few_shot.classify(model, IMAGES / 255, LABELS, IMAGES)


@torch.no_grad()
def test_dequantised_pixels_are_what_densities_are_of(model):
    for x in (dequantise(IMAGES, generator_for(0)), 256 * torch.rand(12, *EVENT)):
        z, log_det = model.flow(x)
        assert model.encode(x).equal(z)
        assert model.log_prob(x).equal(model.process.log_prob(z) + log_det.double().sum())
    edges = torch.tensor([0.0, 0.3, 255.9, 256.0]).repeat(4).view(EVENT)
    assert model.encode(edges).equal(model.flow(edges)[0])


@torch.no_grad()
def test_black_images_are_valid(model):
    middle = model.encode(torch.full((2, *EVENT), 0.5))
    for black in (BLACK, BLACK.long(), BLACK.double(), dequantise(BLACK, None)):
        assert model.encode(black).equal(middle)
    noisy = dequantise(BLACK, generator_for(0))
    assert noisy.max() < 1
    for x in (noisy, noisy.double(), torch.cat([noisy, dequantise(BLACK, None)])):
        assert model.encode(x).equal(model.flow(x)[0])
    nearly = torch.rand(2, *EVENT, generator=generator_for(0))  # as a sample can be
    with pytest.raises(UserError, match=r"bruno\.data\.quantise"):
        model.condition(nearly)
    assert model.encode(quantise(nearly)).equal(middle)
    levels = MASK.to(torch.uint8)
    assert model.encode(levels + 0.5).equal(model.encode(dequantise(levels, None)))


@torch.no_grad()
def test_an_image_means_the_same_whatever_is_beside_it(model):
    dark = dequantise(BLACK, generator_for(0)) + MASK[:2]
    x = torch.cat([IMAGES.float(), dark, BLACK.float()])
    alone = torch.cat([as_pixels("x", part) for part in (IMAGES, dark, BLACK)])
    assert as_pixels("x", x).equal(alone)
    assert as_pixels("x", alone).equal(alone)


@torch.no_grad()
def test_estimators_judge_a_batch_as_a_whole(model, monkeypatch):
    x = torch.cat([IMAGES, MASK.to(torch.uint8)]).numpy()
    density = density_estimator(model)
    at_once = density.score_samples(x)
    monkeypatch.setattr("bruno.chunks.PIXELS", 16)
    np.testing.assert_allclose(density.score_samples(x), at_once, rtol=1e-5)
    x.flags.writeable = False
    np.testing.assert_allclose(density.score_samples(x), at_once, rtol=1e-5)


def test_gradients_pass_whole_numbers(model):
    x = IMAGES.float().requires_grad_()
    model.log_prob(x).backward()
    y = dequantise(IMAGES, None).requires_grad_()
    model.log_prob(y).backward()
    assert x.grad.equal(y.grad)


def test_vectors_are_no_pixels():
    model = Bruno(RealNVP((4,)), ExchangeableGaussian(4))
    x = torch.tensor([[0.0, 1.0, 1.0, 0.0], [-3.0, 400.0, 2.0, 1.0]])
    assert model.encode(x).equal(model.flow(x)[0])
    with pytest.raises(UserError, match=r"floating-point tensor, got torch.uint8"):
        model.encode(x.to(torch.uint8))


def test_empty_sets_and_no_tensors(model):
    empty = torch.zeros(0, *EVENT, dtype=torch.uint8)
    assert model.log_prob(empty) == 0
    assert int(model.condition(empty).evidence.count) == 0
    with pytest.raises(UserError, match=r"x: expected a floating-point tensor, got ndarray"):
        model.encode(IMAGES.numpy())
    with pytest.raises(UserError, match=r"floating-point tensor, got torch.complex64"):
        model.encode(IMAGES.to(torch.complex64))
    with pytest.raises(UserError, match="x: expected finite"):
        model.encode(torch.full(EVENT, torch.nan))
    with pytest.raises(UserError, match="x: expected finite"):
        model.encode(torch.full(EVENT, torch.inf))


@given(
    levels=st.lists(st.integers(0, 255), min_size=16, max_size=16),
    dtype=st.sampled_from(DTYPES),
    noise=st.sampled_from(["none", "noise", "double noise"]),
    seed=st.integers(0, 2**31),
)
@fuzz_settings(200)
def test_every_image_has_one_meaning(levels, dtype, noise, seed):
    image = torch.tensor(levels).view(1, *EVENT)
    real = dequantise(image.to(torch.uint8), None if noise == "none" else generator_for(seed))
    assert as_pixels("x", real).equal(real)
    assert as_pixels("x", real.double()).equal(real.double())
    middle = dequantise(image.to(torch.uint8), None)
    if max(levels) == 1:
        with pytest.raises(UserError, match="got only 0 and 1"):
            as_pixels("x", image.to(dtype))
    else:
        assert as_pixels("x", image.to(dtype)).float().equal(middle)
    if max(levels) > 0:
        for scale in (255, 256, max(levels)):
            scaled = image.to(torch.float64 if noise == "double noise" else torch.float32) / scale
            with pytest.raises(UserError, match=r"scaled to 0\.\.1|got only 0 and 1"):
                as_pixels("x", scaled)
