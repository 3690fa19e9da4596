import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import get_scorer

from bruno import (
    BrunoClassifier,
    ExchangeableGaussian,
    UserError,
)
from bruno.estimators.calibration import choose_novelty_scale, novelty
from bruno.estimators.two_covariance import fit_two_covariance
from bruno.seeding import generator_for
from tests.estimators.iris import X, Y, fitted


@pytest.mark.parametrize(("once", "groups"), [(False, 5), (True, 3)])
def test_classes_are_left_out_once_each_and_examples_of_the_others_held_out(once, groups):
    classes = torch.arange(7).repeat(4)
    calls = []

    def score(learn, scored):
        calls.append((learn, scored))
        known = len(classes[learn].unique())
        return torch.zeros(len(scored), known), torch.ones(len(scored))

    of_known, of_new = novelty(score, classes, 2.0, generator_for(0), once=once)
    assert len(calls) == 2 * groups
    left_out = []
    for (learn, held_out), (same, new) in zip(calls[::2], calls[1::2], strict=True):
        assert torch.equal(learn, same)
        assert set(classes[held_out].tolist()) == set(classes[learn].tolist())
        assert not set(held_out.tolist()) & set(learn.tolist())
        assert not set(classes[new].tolist()) & set(classes[learn].tolist())
        left_out += new.tolist()
    assert sorted(left_out) == list(range(28))
    # Every known class, and so their mean, has log-density 0, the new one 1; halved by tempering.
    torch.testing.assert_close(of_new, torch.full((28,), 0.5, dtype=torch.float64))
    assert len(of_known) == sum(len(held_out) for _, held_out in calls[::2])


@pytest.mark.parametrize(
    "classes", [torch.arange(2).repeat(9), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])]
)
def test_few_classes_or_examples_say_nothing_of_new_ones(classes):
    def score(learn, scored):
        raise AssertionError

    of_known, of_new = novelty(score, classes, 1.0, generator_for(0))
    assert len(of_known) == len(of_new) == 0
    assert choose_novelty_scale(of_known, of_new) == (1, 0)


def test_log_ratios_become_log_odds_of_the_least_loss():
    noise = torch.randn(2, 4000, dtype=torch.float64, generator=generator_for(1))
    for middle in (-15.0, 0.0, 10.0):
        # Two normals of deviation 1 whose means are 2 apart: log-odds are twice the distance.
        slope, offset = choose_novelty_scale(middle - 1 + noise[0], middle + 1 + noise[1])
        assert abs(offset + middle) < 0.1
        assert abs(slope - 2) < 0.2
    # Of what is told apart anyway more cannot be said.
    slope, offset = choose_novelty_scale(noise[0] - 50, noise[1] + 50)
    assert abs(offset) < 0.1
    assert abs(slope - 1) < 0.1


def test_what_a_model_says_wrongly_of_new_classes_is_mended():
    x, y = load_digits(return_X_y=True)
    learn, known = np.arange(len(y)) % 4 == 0, y < 7
    model = copy.deepcopy(BrunoClassifier(random_state=0).fit(x[learn], y[learn]).model_)
    process = model.process
    model.process = ExchangeableGaussian.from_parameters(
        variance=process.noise + 30 * process.covariance, covariance=30 * process.covariance
    )
    parameters = {"model": model, "reject": 0.3, "random_state": 0}
    plain = BrunoClassifier(temperature=1.0, **parameters).fit(x[learn & known], y[learn & known])
    mended = BrunoClassifier(**parameters).fit(x[learn & known], y[learn & known])
    assert (plain.unknown_slope_, plain.unknown_offset_) == (1, 0)
    assert mended.unknown_offset_ > 5
    rejected = mended.predict(x[~learn]) == mended.unknown_label_
    assert (plain.predict(x[~learn & ~known]) == -1).mean() < 0.1
    assert rejected[~known[~learn]].mean() > 0.6
    assert rejected[known[~learn]].mean() < 0.2
    np.testing.assert_array_equal(plain.score_samples(x), mended.score_samples(x))


def test_the_scale_of_rejection_is_saved(tmp_path):
    x, y = load_digits(n_class=5, return_X_y=True)
    classifier = BrunoClassifier(reject=0.2, random_state=0).fit(x[::9], y[::9])
    assert classifier.unknown_offset_ != 0
    classifier.save(tmp_path)
    loaded = BrunoClassifier.load(tmp_path)
    assert loaded.unknown_offset_ == classifier.unknown_offset_
    assert loaded.unknown_slope_ == classifier.unknown_slope_
    np.testing.assert_allclose(loaded.predict_proba(x), classifier.predict_proba(x))
    assert BrunoClassifier(random_state=0).fit(x[::9], y[::9]).unknown_offset_ == 0


def test_temperature_changes_confidence_and_not_density():
    cold, hot = fitted(temperature=1.0), fitted(temperature=10.0)
    assert cold.predict_proba(X).max(1).mean() > hot.predict_proba(X).max(1).mean()
    np.testing.assert_array_equal(cold.predict(X), hot.predict(X))
    np.testing.assert_array_equal(cold.score_samples(X), hot.score_samples(X))


def test_dense_temperatures_come_from_examples_the_flow_has_not_seen(monkeypatch):
    learnt = []

    def fit_dense(x, classes, process, *, common_scale, steps, seed, verbose):
        learnt.append(len(x))
        return fit_two_covariance(x, classes, process, full=True, common_scale=common_scale)

    monkeypatch.setattr("bruno.estimators.base.fit_dense", fit_dense)
    BrunoClassifier(flow="dense", random_state=0).fit(X, Y)
    assert learnt == [150, 100, 100, 100]


@pytest.mark.parametrize("names", [np.array([10, 20]), np.array(["setosa", "versicolor"])])
def test_what_is_of_no_known_class_is_rejected(names):
    known = Y < 2
    classifier = BrunoClassifier(reject=0.3, random_state=0).fit(X[known], names[Y[known]])
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    predicted = classifier.predict(X)
    assert predicted.dtype.kind == names.dtype.kind
    unknown = predicted == classifier.unknown_label_
    assert unknown[~known].mean() > 0.5
    assert unknown[known].mean() < 0.1
    with pytest.raises(UserError, match="reject: expected a probability"):
        BrunoClassifier(reject=1.0).fit(X, Y)


def test_scorers_of_probabilities_need_the_known_classes_alone():
    classifier = fitted(reject=0.1)
    assert get_scorer("accuracy")(classifier, X, Y) > 0.8
    with pytest.raises(ValueError, match="classes"):
        get_scorer("neg_log_loss")(classifier, X, Y)
    known = classifier.predict_proba(X)[:, :-1]
    known /= known.sum(1, keepdims=True)
    closed = fitted().predict_proba(X)
    np.testing.assert_allclose(known, closed, atol=1e-9)
