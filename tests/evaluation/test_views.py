import math

import pytest
import torch
from torch import nn

from bruno import Bruno, ExchangeableGaussian, UserError
from bruno.data import LabelledImages
from bruno.data.context import ContextFeature, encode_context
from bruno.evaluation import Estimate, novel_views, pose
from bruno.evaluation.pose_estimation import (
    angle_between,
    degrees,
    has_unique_pose,
    scores_by_context,
)
from bruno.evaluation.suite import Settings, Subject, evaluate
from bruno.evaluation.views import reconstruction_error
from bruno.reporting.view_pictures import draw_views
from bruno.seeding import generator_for
from tests.evaluation.conftest import make_dataset, make_model

AZIMUTH = ContextFeature("azimuth", is_angle=True)
SIDES = 12
NOISE = 1 / 6  # variance of rounding to grey levels and of dequantisation
PATTERN = 25 * torch.randn(2, 64, generator=generator_for(11)).double()


class Shift(nn.Module):
    """What an image is without what its label adds: exactly how the objects below are made."""

    event_shape = (1, 8, 8)
    dim = 64

    def __init__(self, context_dim=2):
        super().__init__()
        self.context_dim = context_dim

    def forward(self, x, context=None):
        z = x.double().flatten(-3) - 128
        if context is not None:
            z = z - context.double() @ PATTERN
        return z, z.new_zeros(z.shape[:-1])

    def inverse(self, z, context=None):
        x = z + 128 + (0 if context is None else context.double() @ PATTERN)
        return x.unflatten(-1, self.event_shape), z.new_zeros(z.shape[:-1])


def oracle(context_dim=2):
    return Bruno(
        Shift(context_dim),
        ExchangeableGaussian.from_parameters(torch.full((64,), 100 + NOISE), 100.0),
    )


def objects(split, count=12, seed=0):
    generator = generator_for(seed, len(split))
    context = encode_context([AZIMUTH], {"azimuth": torch.arange(SIDES) * 360.0 / SIDES})
    own = 10 * torch.randn(count, 1, 64, generator=generator).double()
    pixels = 128 + own + context.double() @ PATTERN
    return LabelledImages(
        images=pixels.round().clamp(0, 255).to(torch.uint8).view(-1, 1, 8, 8),
        labels=torch.arange(count).repeat_interleave(SIDES),
        class_names=tuple(f"{split}-{index}" for index in range(count)),
        name="toy",
        split=split,
        context=context.repeat(count, 1),
        context_features=(AZIMUTH,),
    )


def test_the_true_model_beats_all_competitors_after_one_view():
    result = novel_views(
        oracle(),
        objects("test"),
        objects("train", 30),
        given=(0, 1, 4),
        targets=3,
        unconditional=oracle(0),
    )
    assert (result.objects, result.targets, [row.given for row in result.by_given]) == (
        12,
        3,
        [0, 1, 4],
    )
    prior, one, four = result.by_given
    assert "nearest training object" not in prior.pictures
    for row in (one, four):
        variance = NOISE * (1 + 100 / (NOISE + 100 * row.given))
        expected = 64 * 0.5 * (math.log(100 + NOISE) - math.log(variance))
        assert prior.nll.mean - row.nll.mean == pytest.approx(expected, rel=0.1)
        assert row.conditioning_gain.mean == pytest.approx(prior.nll.mean - row.nll.mean)
        assert row.conditioning_gain.half_width < row.conditioning_gain.mean
        assert row.unconditional_nll.mean > row.nll.mean
    assert prior.conditioning_gain == prior.step == Estimate(0.0, 0.0, 12)
    assert one.step == one.conditioning_gain
    assert four.step.mean == pytest.approx(one.nll.mean - four.nll.mean)
    for row in (one, four):
        mean = row.pictures["mean"]
        for name in ("nearest training object", "mean training view", "unconditional model"):
            assert mean.rmse.mean < 0.5 * row.pictures[name].rmse.mean
            assert mean.ssim.mean > row.pictures[name].ssim.mean
        assert mean.rmse.mean < row.pictures["sample"].rmse.mean
    assert result.to_dict()["rows"][1]["pictures"]["mean"]["rmse"]["count"] == 12


def test_figures_are_a_function_of_the_seed():
    first, again, other = (
        novel_views(oracle(), objects("test"), objects("train"), given=(1,), samples=2, seed=seed)
        for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_the_nearest_training_object_is_the_same_one_where_it_was_trained_on():
    same = objects("train")
    result = novel_views(oracle(), same, same, given=(1,), samples=1)
    assert result.by_given[0].pictures["nearest training object"].rmse.mean == 0


def test_reconstruction_error_of_equal_and_of_unlike_pictures():
    truth = torch.rand(3, 2, 1, 8, 8, generator=generator_for(0))
    assert reconstruction_error(truth, truth).rmse == Estimate(0.0, 0.0, 3)
    assert reconstruction_error(truth, truth).ssim.mean == pytest.approx(1)
    far = reconstruction_error(truth + 0.5, truth)
    assert far.rmse.mean == pytest.approx(0.5)
    assert far.ssim.mean < 0.95


def test_similarity_in_windows_as_large_as_fit():
    for side in (2, 4, 5):
        truth = torch.rand(2, 1, 1, side, side, generator=generator_for(0))
        assert reconstruction_error(truth, truth).ssim.mean == pytest.approx(1)
        assert reconstruction_error(1 - truth, truth).ssim.mean < 0.95


def test_without_training_objects_two_competitors_are_left_out():
    (row,) = novel_views(oracle(), objects("test"), None, given=(1,), samples=1).by_given
    assert set(row.pictures) == {"mean", "sample"}


def test_pictures_of_a_grey_level_are_that_grey_level():
    """The mean of samples around one grey level is it, neither half a level more nor less."""
    data = objects("test")
    (row,) = novel_views(oracle(), data, data, given=(9,), targets=1, samples=64).by_given
    assert row.pictures["mean"].rmse.mean < 0.5 / 255


def test_the_true_model_finds_the_angle():
    prior, known = pose(oracle(), objects("test"), given=(0, 2))
    assert known.objects == 12
    assert known.median.mean < 1e-3
    assert known.near.mean == 100
    assert known.margin.mean > prior.margin.mean > 0
    assert known.to_dict()["median"]["count"] == 12


def test_an_angle_that_changes_nothing_is_a_guess():
    class Blind(Shift):
        def forward(self, x, context=None):
            return super().forward(x, None if context is None else 0 * context)

    blind = Bruno(Blind(), oracle().process)
    (result,) = pose(blind, objects("test", 40), given=(2,))
    assert result.near.mean < 50
    assert result.margin.mean == pytest.approx(0, abs=1e-9)


def test_an_error_of_twenty_degrees_is_at_most_twenty():
    """Whatever the directions are rounded to as sines and cosines."""
    angles = torch.arange(36) * 10.0
    told = degrees(encode_context([AZIMUTH], {"azimuth": angles}))
    for steps in range(36):
        expected = min(steps, 36 - steps) * 10.0
        assert (angle_between(told, told.roll(steps)) == expected).all()


def test_scores_are_the_log_densities_of_the_labels():
    data = objects("test")
    x, context = data.images[0].double() + 0.5, data.context[:SIDES]
    predictive = oracle().condition(data.images[3:5].double(), data.context[3:5])
    scores = scores_by_context(predictive, x, context)
    torch.testing.assert_close(scores[2], predictive.log_prob(x, context[2]))


def test_objects_that_look_alike_from_all_sides_have_no_front():
    angles = (torch.arange(SIDES) * 360.0 / SIDES).expand(5, SIDES)
    turning = torch.randint(256, (3, SIDES, 1, 8, 8), generator=generator_for(4)).to(torch.uint8)
    round_one = turning[:1, :1].expand(1, SIDES, 1, 8, 8)
    half = torch.cat([turning[1:2, :6], turning[1:2, :6]], 1)
    front = has_unique_pose(torch.cat([turning, round_one, half]), angles)
    assert front.tolist() == [True, True, True, False, False]
    order = torch.randperm(SIDES, generator=generator_for(5))
    shuffled = has_unique_pose(torch.cat([turning, round_one, half])[:, order], angles[:, order])
    assert shuffled.equal(front)
    uneven = angles.clone()
    uneven[:, 1] += 5
    assert has_unique_pose(torch.cat([turning, round_one, half]), uneven).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"given": ()}, "given: expected ascending numbers of views"),
        ({"given": (2, 1)}, "given: expected ascending numbers of views"),
        ({"given": (-1,)}, "given: expected a whole number of at least 0"),
        ({"given": (10,), "targets": 3}, "given: 10 views and 3 targets are more than the 12"),
        ({"targets": 0}, "targets: expected a whole number of at least 1"),
        ({"samples": 0}, "samples: expected a whole number of at least 1"),
        ({"training": make_dataset()}, "expected views with a context, synthetic has none"),
        (
            {"dataset": make_dataset()},
            "the model takes a context of 2 numbers, synthetic has 0",
        ),
        ({"model": make_model()}, "expected a conditional model"),
        ({"unconditional": oracle()}, "unconditional: expected a model without context"),
    ],
)
def test_what_does_not_fit_is_named(arguments, message):
    fitting = {
        "model": oracle(),
        "dataset": objects("test"),
        "training": objects("train"),
        "given": (1,),
    }
    with pytest.raises(UserError, match=message):
        novel_views(**{**fitting, **arguments})


def test_competitors_need_objects_seen_from_the_same_sides():
    odd = objects("train")
    odd.context[0] = torch.tensor([0.6, 0.8])
    for data, training in ((objects("test"), odd), (odd, objects("test"))):
        (row,) = novel_views(oracle(), data, training, given=(1,), samples=1).by_given
        assert set(row.pictures) == {"mean", "sample"}
        assert math.isfinite(row.nll.mean)


def test_poses_need_one_angle_and_a_front():
    with pytest.raises(UserError, match="given: expected 0 to 11 views"):
        pose(oracle(), objects("test"), given=(12,))
    data = objects("test")
    alike = LabelledImages(
        images=data.images[:1].expand_as(data.images).clone(),
        labels=data.labels,
        class_names=data.class_names,
        name="toy",
        split="test",
        context=data.context,
        context_features=(AZIMUTH,),
    )
    with pytest.raises(UserError, match="at least 2 objects that do not look alike"):
        pose(oracle(), alike, given=(1,))
    evaluation = evaluate(Subject(oracle(), alike), Settings(set_size=2))
    assert list(evaluation.results) == ["likelihood", "views"]
    assert set(draw_views(oracle(), alike, 0)) == {"views.png", "prior.png", "turntable.gif"}
    object.__setattr__(alike, "context_features", (ContextFeature("a"), ContextFeature("b")))
    with pytest.raises(UserError, match="expected one angle as the context of toy"):
        pose(oracle(), alike, given=(1,))
