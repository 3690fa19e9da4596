from types import SimpleNamespace

import pytest
import torch

from bruno import Bruno, ExchangeableGaussian, RealNVP, UserError
from bruno.data import dequantise
from bruno.data.dataset import LabelledImages
from bruno.evaluation.generation import generation, judge_of
from bruno.seeding import generator_for


def stripes(classes=6, images=20, seed=3):
    """Images whose class is the row of a bright stripe, under noise of their own."""
    generator = generator_for(seed)
    noise = torch.randint(0, 100, (classes * images, 1, 8, 8), generator=generator)
    labels = torch.arange(classes).repeat_interleave(images)
    noise[torch.arange(len(labels)), 0, labels] = 250
    names = tuple(f"row {index}" for index in range(classes))
    return LabelledImages(noise.to(torch.uint8), labels, names, "stripes", "test")


def nearest_mean(examples, images):
    means = examples.float().mean(1).flatten(1)
    return -torch.cdist(images.flatten(1).float(), means)


class Stub:
    """A model whose samples are made from the given images by a function."""

    device = torch.device("cpu")

    def __init__(self, make):
        self.make = make

    def condition(self, x):
        def sample(number, generator, latent_scale):
            drawn = torch.stack([self.make(x, generator, latent_scale) for _ in range(number)])
            return dequantise(drawn.floor().clamp(0, 255).to(torch.uint8), None)

        return SimpleNamespace(sample=sample)


def copy_one(x, generator, _):
    return x[:, int(torch.randint(x.shape[1], (), generator=generator))]


def noise(x, generator, _):
    return 256 * torch.rand(x[:, 0].shape, generator=generator)


def only(results):
    (result,) = results
    return result


def run(make, **changes):
    settings = {"given": (5,), "latent_scales": (1.0,), "way": 6, "episodes": 3, "samples": 4}
    return generation(Stub(make), stripes(), nearest_mean, **(settings | changes))


def test_a_model_that_copies_is_named_right_and_found_out():
    result = only(run(copy_one, training=stripes(seed=4)))
    assert result.judged.mean == 100
    assert result.real.mean == 100
    assert result.nearest_given.mean == 0
    assert result.nearest_training.mean == pytest.approx(1, abs=0.05)
    assert result.samples == 3 * 6 * 4


def test_noise_is_named_by_chance_and_varies_too_much():
    result = only(run(noise, episodes=20))
    assert result.judged.mean == pytest.approx(100 / 6, abs=6)
    assert result.real.mean == 100
    assert result.variance.mean > 2
    assert result.spread.mean > 1.3
    assert result.nearest_given.mean > 1.3
    assert result.nearest_training is None


def test_what_is_drawn_like_the_data_has_ratios_of_one():
    def fresh(x, generator, _):
        row = x[:, :, 0].mean(1).mean(-1).argmax(1)
        drawn = torch.randint(0, 100, x[:, 0].shape, generator=generator).float()
        drawn[torch.arange(len(drawn)), 0, row] = 250
        return drawn

    result = only(run(fresh, episodes=10))
    for ratio in (result.variance, result.spread, result.nearest_given):
        assert ratio.mean == pytest.approx(1, abs=0.05)


def test_every_number_and_latent_scale_has_a_result_on_the_same_classes():
    results = run(copy_one, given=(1, 5), latent_scales=(1.0, 0.5))
    assert [(r.given, r.latent_scale) for r in results] == [(1, 1), (1, 0.5), (5, 1), (5, 0.5)]
    assert len({r.real for r in results}) == 1
    assert len(results[0].rows()[0]) == 9
    assert results[0].to_dict()["judged"]["count"] == 18


def test_a_model_can_judge():
    data = stripes()
    flow = RealNVP((1, 8, 8), preset="dense", dense_units=4, dense_couplings=0)
    model = Bruno(flow, ExchangeableGaussian.from_parameters(torch.ones(64), 0.9))
    flow.initialise(dequantise(data.images, None))
    examples = data.images.view(6, 20, 1, 8, 8)
    scores = judge_of(model)(examples[:, :6], examples[:, 6])
    assert scores.argmax(1).tolist() == list(range(6))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"way": 7}, "way: expected at most the 6 classes of stripes/test, got 7"),
        ({"given": (11,)}, "given: expected at most 10, so that 6 images .* got 11"),
        ({"given": ()}, "given: expected a list of at least one number"),
        ({"samples": 1}, "samples: expected a whole number of at least 2, got 1"),
        ({"latent_scales": (-1.0,)}, "latent_scales: expected numbers of at least 0"),
    ],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(UserError, match=message):
        run(copy_one, **changes)
