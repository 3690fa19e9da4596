import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from bruno import ExchangeableGaussian, UserError
from bruno.evaluation import Estimate, LikelihoodResult
from bruno.reporting import plots


def result() -> LikelihoodResult:
    curve = tuple(Estimate(500.0 - 10 * i, 5.0, 8) for i in range(4))
    return LikelihoodResult(
        dataset="synthetic/test",
        sets=8,
        set_size=4,
        dim=100,
        nll=Estimate(485.0, 5.0, 32),
        first=curve[0],
        last=curve[-1],
        conditioning_gain=Estimate(30.0, 1.0, 8),
        curve=curve,
        seed=0,
    )


def test_image_grid_shows_every_pixel_and_leaves_gaps_transparent():
    images = torch.arange(2 * 3 * 16).view(2, 3, 1, 4, 4).to(torch.uint8)
    ax = plots.image_grid(images, row_labels=["a", "b"], column_groups=[("x", 1), ("y", 2)])
    shown = np.asarray(ax.images[0].get_array())
    opaque = shown[shown[..., 3] > 0]
    assert len(opaque) == images.numel()
    assert (shown[:4, :4, 0] == images[0, 0, 0].numpy()).all()
    assert (shown[-4:, -4:, 2] == images[1, 2, 0].numpy()).all()
    assert ax.images[0].get_interpolation() == "nearest"
    assert [text.get_text() for text in ax.get_yticklabels()] == ["a", "b"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["x", "y"]
    # The gap between the groups is wider than the gap within a group.
    columns = np.flatnonzero(shown[0, :, 3] == 0)
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1)
    assert len(runs) == 2
    assert len(runs[0]) > 3 * len(runs[1])


def test_every_pixel_is_drawn_three_times_as_large():
    ax = plots.image_grid(
        torch.zeros(3, 10, 1, 28, 28, dtype=torch.uint8), row_labels=["some/long name"] * 3
    )
    ax.figure.canvas.draw()
    height, width = np.asarray(ax.images[0].get_array()).shape[:2]
    box = ax.get_window_extent()
    assert box.width >= 2.9 * width
    assert box.height >= 2.9 * height


def test_colour_and_float_images():
    images = torch.tensor([10.9, 255.99, 300.0]).view(1, 1, 3, 1, 1)
    ax = plots.image_grid(images)
    assert np.asarray(ax.images[0].get_array())[0, 0].tolist() == [10, 255, 255, 255]


def test_given_and_generated_stand_side_by_side():
    given = torch.full((2, 1, 1, 4, 4), 9, dtype=torch.uint8)
    samples = torch.full((2, 3, 1, 4, 4), 200.5)
    shown = np.asarray(plots.plot_samples_given(given, samples).images[0].get_array())
    assert (shown[:4, :4, 0] == 9).all()
    assert (shown[:4, -4:, 0] == 200).all()
    with pytest.raises(UserError, match="samples: expected rows"):
        plots.plot_samples_given(given, samples[:1])


def test_prior_samples_fill_whole_rows():
    ax = plots.plot_prior_samples(torch.zeros(25, 1, 4, 4), columns=10)
    assert np.asarray(ax.images[0].get_array()).shape[0] == 2 * 4 + 2
    with pytest.raises(UserError, match="at least 10"):
        plots.plot_prior_samples(torch.zeros(3, 1, 4, 4))


def test_image_grid_errors():
    images = torch.zeros(2, 3, 1, 4, 4)
    for wrong in (images[0], images[:, :0], images.expand(2, 3, 2, 4, 4)):
        with pytest.raises(UserError, match="images: expected shape"):
            plots.image_grid(wrong)
    with pytest.raises(UserError, match="column_groups: expected 3"):
        plots.image_grid(images, column_groups=[("a", 2)])
    with pytest.raises(UserError, match="row_labels: expected 2"):
        plots.image_grid(images, row_labels=["a"])


def test_log_likelihood_curve_and_its_second_unit():
    ax = plots.plot_log_likelihood_by_set_size(result())
    (line,) = ax.lines
    assert line.get_xdata().tolist() == [0, 1, 2, 3]
    assert line.get_ydata().tolist() == [500, 490, 480, 470]
    band = ax.collections[0].get_paths()[0].get_extents()
    assert (band.y0, band.y1) == (465, 505)
    ax.figure.canvas.draw()
    low, high = ax.get_ylim()
    right = ax.child_axes[0].get_ylim()
    assert right == pytest.approx((low / (100 * math.log(2)), high / (100 * math.log(2))))


def test_an_unknown_interval_is_not_drawn():
    curve = tuple(Estimate(500.0, math.inf, 1) for _ in range(3))
    assert not plots.plot_log_likelihood_by_set_size(replace(result(), curve=curve)).collections


def test_correlated_dimensions():
    process = ExchangeableGaussian.from_parameters(torch.ones(4), torch.tensor([0, 0.01, 0.1, 0.5]))
    ax = plots.plot_correlated_dimensions(process)
    x, y = ax.lines[0].get_data()
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    assert y[0] == 3
    assert y[-1] == 1
    assert x[-1] == pytest.approx(0.5, rel=0.1)


def test_training_curve_shows_both_kinds_and_skips_what_is_missing():
    history = [
        {"kind": "train", "step": 1, "nll": 900.0, "accuracy": 0.25},
        {"kind": "train", "step": 2, "nll": None, "accuracy": 0.5},
        {"kind": "train", "step": 3, "nll": math.nan},
        {"kind": "train", "step": 4, "nll": 700.0, "accuracy": 0.75},
        {"kind": "validation", "step": 4, "nll": 750.0, "accuracy": None},
    ]
    ax = plots.plot_training_curve(history)
    train, validation = ax.lines
    assert train.get_xdata().tolist() == [1, 4]
    assert validation.get_ydata().tolist() == [750]
    accuracy = plots.plot_training_curve(history, quantity="accuracy")
    assert accuracy.lines[0].get_ydata().tolist() == [25, 50, 75]
    assert not plots.plot_training_curve([]).lines
    with pytest.raises(UserError, match="quantity"):
        plots.plot_training_curve(history, quantity="speed")  # type: ignore[arg-type]


def test_the_first_steps_do_not_flatten_the_curve():
    history = [{"kind": "train", "step": i, "nll": 1e6 if i < 3 else 500.0} for i in range(100)]
    assert plots.plot_training_curve(history).get_ylim()[1] < 600


def test_draws_on_given_axes_and_leaves_pyplot_alone():
    ax = Figure().add_subplot()
    assert plots.plot_training_curve([], ax) is ax
    assert plots.plot_log_likelihood_by_set_size(result(), ax) is ax
    assert plots.image_grid(torch.zeros(1, 1, 1, 4, 4), ax) is ax
    assert "plt" not in vars(plots)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_novel_views_stand_below_the_truth():
    truth = torch.randint(256, (2, 3, 1, 4, 4)).to(torch.uint8)
    samples = {"sample": truth.flip(1), "mean": truth}
    ax = plots.plot_novel_views(truth[:, 0], truth, samples)
    assert [text.get_text() for text in ax.get_yticklabels()] == ["truth", "sample", "mean"] * 2
    shown = np.asarray(ax.images[0].get_array())
    assert (shown[:4, :4, 0] == truth[0, 0, 0].numpy()).all()
    assert (shown[6:10, -4:, 0] == truth[0, 0, 0].numpy()).all()
    assert (shown[6:10, :4, :3] == 0).all()
    with pytest.raises(UserError, match="samples: expected mean of shape"):
        plots.plot_novel_views(truth[:, 0], truth, {"mean": truth[:, :2]})
    with pytest.raises(UserError, match="observed: expected shape"):
        plots.plot_novel_views(truth[:1, 0], truth, samples)


def test_angles_are_drawn_relative_to_the_true_one():
    angles = torch.tensor([[0.0, 90.0, 180.0, 270.0]] * 2)
    scores = torch.tensor([[3.0, 1.0, 0.0, 2.0], [0.0, 1.0, 5.0, 1.0]])
    ax = plots.plot_angle_likelihood(angles, scores, torch.tensor([0.0, 270.0]))
    first, second = ax.lines[:2]
    assert list(first.get_xdata()) == [-180, -90, 0, 90]
    assert list(first.get_ydata()) == [-3, -1, 0, -2]
    assert list(second.get_xdata()) == [-180, -90, 0, 90]
    assert list(second.get_ydata()) == [-4, 0, -4, -5]
    with pytest.raises(UserError, match="scores: expected shape"):
        plots.plot_angle_likelihood(angles, scores[:, :3], torch.tensor([0.0, 270.0]))


def test_png_is_a_picture_of_the_whole_figure():
    ax = plots.image_grid(torch.zeros(2, 2, 1, 4, 4, dtype=torch.uint8))
    assert plots.to_png(ax).startswith(b"\x89PNG")
    ax.remove()
    with pytest.raises(UserError, match="axes without one"):
        plots.to_png(ax)
