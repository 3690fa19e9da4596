import copy
import math
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.metrics import get_scorer

from bruno import BrunoClassifier, Evidence, ExchangeableGaussian, UserError
from bruno.estimators.calibration import fit_platt_scaling, log_odds_unknown, starting_temperature
from bruno.estimators.two_covariance import fit_process
from bruno.estimators.two_covariance_flow import fit_flow
from bruno.seeding import generator_for
from tests.estimators.iris import X, Y, fitted


@pytest.mark.parametrize(("once", "groups"), [(False, 5), (True, 3)])
def test_classes_are_left_out_once_each_and_examples_of_the_others_held_out(once, groups):
    classes = torch.arange(7).repeat(4)
    log_prior = torch.arange(1.0, 8.0).log().double()
    calls = []

    def score(learn, scored):
        calls.append((learn, scored))
        known = classes[learn].unique()
        # Of a class k the density is 1 / (k + 1): weighted by the prior, that of each is the same.
        log_prob = -log_prior[known].expand(len(scored), -1)
        return log_prob, torch.full((len(scored),), 3.0, dtype=torch.float64)

    of_known, of_new = log_odds_unknown(score, classes, log_prior, 1.0, generator_for(0), once=once)
    assert len(calls) == groups
    left_out = []
    for learn, scored in calls:
        is_new = ~torch.isin(classes[scored], classes[learn])
        assert set(classes[scored[~is_new]].tolist()) == set(classes[learn].tolist())
        assert not set(scored.tolist()) & set(learn.tolist())
        left_out += scored[is_new].tolist()
        among = classes[learn].unique()
        expected = 3 - math.log(len(among)) + float(log_prior[among].logsumexp(0))
        assert any(abs(of_new - expected) < 1e-9)
        assert any(abs(of_known - expected) < 1e-9)
    assert sorted(left_out) == list(range(28))
    assert len(of_new) == 28
    assert len(of_known) == sum(len(scored) for _, scored in calls) - 28


@pytest.mark.parametrize(
    "classes", [torch.arange(2).repeat(9), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])]
)
def test_few_classes_or_examples_say_nothing_of_new_ones(classes):
    def score(learn, scored):
        raise AssertionError

    prior = torch.zeros(3, dtype=torch.float64)
    of_known, of_new = log_odds_unknown(score, classes, prior, 1.0, generator_for(0))
    assert len(of_known) == len(of_new) == 0
    assert fit_platt_scaling(of_known, of_new) == (1, 0)


@pytest.mark.parametrize("middle", [-45.0, 0.0, 30.0])
@pytest.mark.parametrize("slope", [0.3, 2.0])
def test_log_ratios_become_log_odds_of_the_least_loss(middle, slope):
    # Of two normals of the same deviation the log-odds are a line.
    noise = torch.randn(2, 4000, dtype=torch.float64, generator=generator_for(1)) / slope**0.5
    found, intercept = fit_platt_scaling(middle - 0.5 + noise[0], middle + 0.5 + noise[1])
    assert abs(found - slope) < 0.1 * slope + 0.03
    assert abs(intercept + found * middle) < 0.2


def test_strange_examples_do_not_decide():
    noise = torch.randn(2, 300, dtype=torch.float64, generator=generator_for(2))
    usual = fit_platt_scaling(noise[0] - 2, noise[1] + 2)
    for far in (1e3, 1e200, torch.inf):
        strange = torch.tensor([far], dtype=torch.float64)
        found = fit_platt_scaling(torch.cat([noise[0] - 2, strange]), noise[1] + 2)
        assert abs(found[0] - usual[0]) < 0.5 * usual[0]
    backwards, _ = fit_platt_scaling(noise[0] + 2, noise[1] - 2)
    assert 0 < backwards < 0.1


def test_what_dimensions_repeat_is_believed_less():
    start = partial(starting_temperature, global_scale=True)
    assert start(1000, 2) == pytest.approx(1, rel=1e-3)
    assert start(1000, 36) == pytest.approx(3, rel=1e-3)
    # Of many dimensions few elements tell little; from many on it does not matter how many.
    assert start(10, 1024) > 2 * start(200, 1024) > 4 * start(1000, 1024) > 16
    assert start(10, 1024) == pytest.approx(start(10, 4096))
    assert start(10_000, 1024) == pytest.approx(start(10_000, 64), rel=1e-3)


def test_scales_told_from_few_elements_are_believed_less():
    start = partial(starting_temperature, global_scale=False)
    assert start(2, 36) > 2 * start(4, 36) > 6
    x = np.random.default_rng(0).normal(size=(2, 8))
    columns, common, dense = (
        BrunoClassifier(steps=1, random_state=0, **parameters).fit(x, [0, 1]).temperature_
        for parameters in (
            {"scale": "per_feature"},
            {"scale": "global"},
            {"scale": "global", "flow": "dense"},
        )
    )
    assert common < 0.3 * columns
    assert dense == columns


@pytest.mark.parametrize("class_prior", ["uniform", [0.7, 0.2, 0.1]])
def test_rejection_is_by_scaled_log_odds(class_prior):
    classifier = fitted(class_prior=class_prior, unknown_prior=0.25)
    known = fitted(class_prior=class_prior, temperature=classifier.temperature_)
    classifier.unknown_slope_, classifier.unknown_intercept_ = 1.7, -0.4
    prior = np.full(3, 1 / 3) if class_prior == "uniform" else np.asarray(class_prior)
    x = torch.from_numpy(X)
    with torch.no_grad():
        of_classes = classifier.model_.process.log_prob_given(
            classifier.model_.encode(x), classifier.evidence_
        )
        of_none = classifier.model_.process.predictive(Evidence.empty(4)).log_prob(
            classifier.model_.encode(x)
        )
    of_known = np.logaddexp.reduce(
        of_classes.numpy() / classifier.temperature_ + np.log(prior), axis=1
    )
    log_odds = 1.7 * (of_none.numpy() / classifier.temperature_ - of_known) - 0.4 - np.log(3)
    found = classifier.predict_proba(X)
    np.testing.assert_allclose(found[:, -1], 1 / (1 + np.exp(-log_odds)), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(found.sum(1), 1)
    among_known = found[:, :-1] / found[:, :-1].sum(1, keepdims=True)
    np.testing.assert_allclose(among_known, known.predict_proba(X), atol=1e-9)


def test_elements_a_given_model_finds_far_away_are_calibrated_all_the_same():
    classifier = BrunoClassifier(fitted().model_, unknown_prior=0.2, random_state=0).fit(
        X * 1e79, Y
    )
    assert np.isfinite([classifier.unknown_slope_, classifier.unknown_intercept_]).all()
    assert np.isfinite(classifier.predict_proba(X)).all()


def test_a_class_too_far_from_all_others_leaves_rejection_as_the_model_says():
    far = X.copy()
    far[0, 0] = 1e300
    classifier = BrunoClassifier(random_state=0, unknown_prior=0.2).fit(far, Y)
    assert np.isfinite(classifier.predict_proba(X)).all()


def test_what_a_model_says_wrongly_of_new_classes_is_mended():
    x, y = load_digits(return_X_y=True)
    learn, known = np.arange(len(y)) % 4 == 0, y < 7
    model = copy.deepcopy(BrunoClassifier(random_state=0).fit(x[learn], y[learn]).model_)
    process = model.process
    model.process = ExchangeableGaussian.from_parameters(
        variance=process.noise + 30 * process.covariance, covariance=30 * process.covariance
    )
    parameters = {"model": model, "unknown_prior": 0.3, "random_state": 0}
    plain = BrunoClassifier(temperature=1.0, **parameters).fit(x[learn & known], y[learn & known])
    mended = BrunoClassifier(**parameters).fit(x[learn & known], y[learn & known])
    assert (plain.unknown_slope_, plain.unknown_intercept_) == (1, 0)
    assert mended.unknown_intercept_ > 5
    rejected = mended.predict(x[~learn]) == mended.unknown_label_
    assert (plain.predict(x[~learn & ~known]) == -1).mean() < 0.1
    assert rejected[~known[~learn]].mean() > 0.6
    assert rejected[known[~learn]].mean() < 0.2
    np.testing.assert_array_equal(plain.score_samples(x), mended.score_samples(x))


def test_the_scale_of_rejection_is_saved(tmp_path):
    x, y = load_digits(n_class=5, return_X_y=True)
    classifier = BrunoClassifier(unknown_prior=0.2, random_state=0).fit(x[::9], y[::9])
    assert classifier.unknown_intercept_ != 0
    classifier.save(tmp_path)
    loaded = BrunoClassifier.load(tmp_path)
    assert loaded.unknown_intercept_ == classifier.unknown_intercept_
    assert loaded.unknown_slope_ == classifier.unknown_slope_
    np.testing.assert_allclose(loaded.predict_proba(x), classifier.predict_proba(x))
    assert BrunoClassifier(random_state=0).fit(x[::9], y[::9]).unknown_intercept_ == 0


def test_temperature_changes_confidence_and_not_density():
    cold, hot = fitted(temperature=1.0), fitted(temperature=10.0)
    assert cold.predict_proba(X).max(1).mean() > hot.predict_proba(X).max(1).mean()
    np.testing.assert_array_equal(cold.predict(X), hot.predict(X))
    np.testing.assert_array_equal(cold.score_samples(X), hot.score_samples(X))


def test_dense_temperatures_come_from_examples_the_flow_has_not_seen(monkeypatch):
    learnt = []

    def fit_dense(x, classes, process, *, global_scale, steps, seed, verbose):
        learnt.append(len(x))
        flow = fit_flow(x, classes, full=True, global_scale=global_scale)
        return fit_process(flow, process).model

    monkeypatch.setattr("bruno.estimators.fitting.fit_dense", fit_dense)
    BrunoClassifier(flow="dense", random_state=0).fit(X, Y)
    assert learnt == [150, 100, 100, 100]
    learnt.clear()
    # A third of the classes is left out, and a third of the rest is held out.
    BrunoClassifier(flow="dense", random_state=0, unknown_prior=0.1).fit(X, Y)
    assert len(learnt) == 7
    assert all(60 < number < 74 for number in learnt[4:])


@pytest.mark.parametrize("names", [np.array([10, 20]), np.array(["setosa", "versicolor"])])
def test_what_is_of_no_known_class_is_rejected(names):
    known = Y < 2
    classifier = BrunoClassifier(unknown_prior=0.3, random_state=0).fit(X[known], names[Y[known]])
    probabilities = classifier.predict_proba(X)
    assert probabilities.shape == (150, 3)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    predicted = classifier.predict(X)
    assert predicted.dtype.kind == names.dtype.kind
    unknown = predicted == classifier.unknown_label_
    assert unknown[~known].mean() > 0.5
    assert unknown[known].mean() < 0.1
    with pytest.raises(UserError, match=r"unknown_prior: expected a number in \(0, 1\)"):
        BrunoClassifier(unknown_prior=1.0).fit(X, Y)


def test_scorers_of_probabilities_need_the_known_classes_alone():
    classifier = fitted(unknown_prior=0.1)
    assert get_scorer("accuracy")(classifier, X, Y) > 0.8
    with pytest.raises(ValueError, match="classes"):
        get_scorer("neg_log_loss")(classifier, X, Y)
    known = classifier.predict_proba(X)[:, :-1]
    known /= known.sum(1, keepdims=True)
    closed = fitted().predict_proba(X)
    np.testing.assert_allclose(known, closed, atol=1e-9)
