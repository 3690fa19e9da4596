"""Figures of systems whose predictions are known."""

import math

import pytest
import torch

from bruno import UserError
from bruno.baselines.interface import Predictor, System
from bruno.comparison.measure import (
    MeasureConfig,
    calibration_error,
    measure,
    measure_cost,
    settings_for,
)
from bruno.data.dataset import LabelledImages
from tests.baselines.squares import squares

CONFIG = MeasureConfig(episodes=4, queries=2)


class Known(Predictor):
    """Gives the class of the most similar example a fixed log-odds, the others none."""

    def __init__(self, support, labels, log_odds, by_order):
        self.support, self.labels, self.log_odds = support, labels, log_odds
        self.by_order = by_order

    @property
    def state(self):
        return (self.support,)

    def predict_log_prob(self, query):
        bright = (query.flatten(1) > 100).float() @ (self.support.flatten(1) > 100).float().T
        nearest = self.labels[bright.argmax(1)]
        logits = self.log_odds * torch.nn.functional.one_hot(nearest, int(self.labels.max()) + 1)
        if self.by_order:
            logits = logits + self.labels[0] / 10 * (torch.arange(logits.shape[1]) == 0)
        return logits.log_softmax(-1)


class KnownSystem(System):
    title = "known"

    def __init__(self, log_odds, by_order=False):
        super().__init__((1, 16, 16), 0)
        self.log_odds, self.by_order = log_odds, by_order

    def loss(self, episode, generator):
        pytest.fail(f"measuring took a step of training: {episode}, {generator}")

    def adapt(self, support, labels):
        return Known(support, labels, self.log_odds, self.by_order)


def test_accuracy_log_loss_and_calibration_of_a_known_predictor():
    # Unrotated squares lie apart; some rotated ones coincide and are not told apart.
    figures = measure(KnownSystem(math.log(4)), squares("test"), squares("val"), CONFIG)
    assert [(task["way"], task["shot"]) for task in figures["tasks"]] == [(5, 1), (5, 5)]
    task = figures["tasks"][0]
    accuracy = task["accuracy"]["mean"] / 100
    assert 0.6 < accuracy <= 1.0
    assert task["accuracy"]["count"] == 4 * 5 * 2
    # Probabilities 4/8 and 1/8 each.
    expected = accuracy * math.log(2) + (1 - accuracy) * math.log(8)
    assert task["log_loss"]["mean"] == pytest.approx(expected)
    assert task["calibration_error"] == pytest.approx(100 * abs(accuracy - 0.5))
    assert task["log_loss_tempered"]["mean"] < expected
    assert figures["temperature"] < 1


def test_a_probability_of_zero_is_a_finite_loss():
    figures = measure(KnownSystem(math.inf), squares("test"), squares("val"), CONFIG)
    assert figures["tasks"][0]["log_loss"]["mean"] == pytest.approx(87)


def test_the_spread_over_orders_and_the_memory_of_a_class():
    same = measure_cost(KnownSystem(1.0), squares("test"), CONFIG)
    assert same["permutation_spread"] < 1e-12
    assert same["bytes_per_class"] == 5 * 16 * 16
    assert same["cost_task"] == [5, 5]
    other = measure_cost(KnownSystem(1.0, by_order=True), squares("test"), CONFIG)
    # The logit of class 0 goes from 0 to 0.4: of the true class 0 at most by 0.4 (1 - p).
    assert 0.2 < other["permutation_spread"] < 0.4


def test_the_calibration_error_weighs_bins_by_their_size():
    confidence = torch.tensor([0.95, 0.95, 0.95, 0.41])
    correct = torch.tensor([1.0, 1.0, 0.0, 1.0])
    assert calibration_error(confidence, correct) == pytest.approx((0.85 + 0.59) / 4)


def test_a_data_set_without_enough_classes_or_images_is_refused():
    few = squares("test").restrict(["00", "01", "02"])
    with pytest.raises(UserError, match="dataset: squares/test has 3 classes and 12 images"):
        settings_for(few, CONFIG)
    full = squares("test")
    single = LabelledImages(
        full.images[::12], full.labels[::12], full.class_names, "squares", "test"
    )
    with pytest.raises(UserError, match="12 classes and 1 images of the smallest"):
        settings_for(single, CONFIG)
