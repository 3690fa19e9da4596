import pickle
import sys

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bruno import BrunoClassifier, UserError, progress
from bruno.training.objectives import Objective
from tests.estimators.iris import X, Y, fitted
from tests.terminal import Terminal

processes = pytest.mark.parametrize("process", ["gaussian", "student_t"])
flows = pytest.mark.parametrize("flow", ["diagonal", "affine"])


@processes
@flows
def test_probabilities_are_those_of_the_predictive_densities(process, flow):
    classifier = fitted(process=process, flow=flow, temperature=1.0)
    elements = torch.from_numpy(X[1::2])
    with torch.no_grad():
        scores = torch.stack(
            [
                classifier.model_.condition(torch.from_numpy(X[::2][Y[::2] == k])).log_prob(
                    elements
                )
                for k in range(3)
            ],
            1,
        )
        unknown = classifier.model_.prior().log_prob(elements)
    expected = scores.log_softmax(1).numpy()
    np.testing.assert_allclose(classifier.predict_log_proba(X[1::2]), expected, atol=1e-8)
    np.testing.assert_allclose(classifier.score_samples(X[1::2]), unknown.numpy(), atol=1e-8)
    assert classifier.score(X[1::2], Y[1::2]) > 0.9


@processes
@flows
def test_examples_one_by_one_in_any_order_equal_all_at_once(process, flow):
    start = BrunoClassifier(process=process, flow=flow, temperature=2.0).fit(X[:60], Y[:60])
    at_once = clone(start).fit(X[:60], Y[:60]).partial_fit(X[60:], Y[60:])
    for row in np.random.default_rng(0).permutation(np.arange(60, 150)):
        start.partial_fit(X[row : row + 1], Y[row : row + 1])
    np.testing.assert_array_equal(start.classes_, [0, 1, 2])
    np.testing.assert_allclose(start.predict_log_proba(X), at_once.predict_log_proba(X), atol=1e-9)


@processes
@flows
def test_forgetting_equals_never_having_seen(process, flow):
    model = fitted(process=process, flow=flow).model_
    never = BrunoClassifier(model=model).fit(X[5:90], Y[5:90])
    forgot = BrunoClassifier(model=model, temperature=never.temperature_).fit(X, Y)
    forgot.forget(X[:5], Y[:5]).forget(X[90:], Y[90:])
    np.testing.assert_array_equal(forgot.classes_, [0, 1])
    np.testing.assert_allclose(
        forgot.predict_log_proba(X), never.predict_log_proba(X), rtol=1e-9, atol=1e-9
    )


def test_more_dimensions_than_elements():
    x = np.random.default_rng(0).normal(size=(30, 60))
    y = np.arange(30) % 3
    model = BrunoClassifier(process="student_t", temperature=1.0).fit(x, y).model_
    assert float(model.process.df.min()) >= 3
    classifier = BrunoClassifier(model=model, temperature=1.0).fit(x[:20], y[:20])
    before = classifier.predict_log_proba(x)
    classifier.partial_fit(x[20:], y[20:]).forget(x[20:], y[20:])
    np.testing.assert_allclose(classifier.predict_log_proba(x), before, rtol=1e-9, atol=1e-9)


def test_what_cannot_be_forgotten_is_refused_and_nothing_changes():
    classifier = fitted()
    before = classifier.predict_log_proba(X)
    with pytest.raises(UserError, match="expected known classes, got 7"):
        classifier.forget(X[:2], [0, 7])
    with pytest.raises(UserError, match="expected at most as many elements as were seen"):
        classifier.forget(X[:50], Y[:50])
    with pytest.raises(UserError, match="no subset of the elements seen"):
        classifier.forget(X[:2] + 100, Y[:2])
    with pytest.raises(UserError, match="no class would be left"):
        classifier.forget(X[::2], Y[::2])
    np.testing.assert_array_equal(classifier.predict_log_proba(X), before)


def test_classes_without_examples_can_be_announced():
    classifier = fitted(class_prior="empirical").partial_fit(X[:1], Y[:1], classes=[0, 1, 2, 3])
    np.testing.assert_array_equal(classifier.classes_, [0, 1, 2, 3])
    assert classifier.evidence_.count.tolist() == [26, 25, 25, 0]
    assert np.isfinite(classifier.predict_log_proba(X)).all()


def test_the_prior_of_classes():
    even = fitted(class_prior="uniform")
    tilted = fitted(class_prior=[0.98, 0.01, 0.01])
    difference = tilted.predict_log_proba(X) - even.predict_log_proba(X)
    odds = difference[:, 0] - difference[:, 1]
    np.testing.assert_allclose(odds, np.log(98), atol=1e-8)
    with pytest.raises(
        UserError, match="class_prior: expected 3 probabilities, one for each class, got 2"
    ):
        fitted(class_prior=[0.5, 0.5]).predict(X)
    with pytest.raises(UserError, match="class_prior: expected one of uniform, empirical"):
        fitted(class_prior="even")


@flows
def test_samples_follow_the_predictive(flow):
    classifier = fitted(flow=flow, process="gaussian")
    drawn = classifier.sample(1, 4000, random_state=1)
    of_class = X[::2][Y[::2] == 1]
    np.testing.assert_allclose(drawn.mean(0), of_class.mean(0), atol=0.15)
    assert (classifier.predict(drawn) == 1).mean() > 0.8
    np.testing.assert_array_equal(drawn, classifier.sample(1, 4000, random_state=1))
    for label in (9, [1]):
        with pytest.raises(UserError, match="label: expected one of"):
            classifier.sample(label)
    with pytest.raises(UserError, match="n: expected a whole number of at least 0"):
        classifier.sample(1, 2.5)


def test_ranking_finds_more_of_a_handful():
    digits, labels = load_digits(return_X_y=True)
    classifier = BrunoClassifier(process="gaussian", flow="diagonal", temperature=1.0)
    classifier.fit(digits[labels < 8], labels[labels < 8])
    nines, corpus = np.flatnonzero(labels == 9)[:5], digits[1000:]
    rows, scores = classifier.rank(digits[nines], corpus, top_k=20)
    assert (labels[1000:][rows] == 9).mean() > 0.7
    assert (np.diff(scores) <= 0).all()
    assert len(classifier.rank(digits[nines], corpus)[0]) == len(corpus)
    with pytest.raises(UserError, match="top_k"):
        classifier.rank(digits[nines], corpus, top_k=0)


def test_a_dense_flow_is_learnt():
    moons = np.random.default_rng(0).normal(size=(200, 2))
    labels = (np.abs(moons[:, 0]) > 0.7).astype(int)  # no linear map tells these apart
    parameters = {"random_state": 1, "process": "gaussian", "temperature": 1.0}
    dense = BrunoClassifier(flow="dense", steps=300, **parameters).fit(moons, labels)
    linear = BrunoClassifier(flow="affine", covariance="shared", **parameters).fit(moons, labels)
    assert dense.score(moons, labels) > 0.1 + linear.score(moons, labels)
    with pytest.raises(UserError, match="X: expected at least 2 features"):
        BrunoClassifier(flow="dense", steps=1).fit(moons[:, :1], labels)
    with pytest.raises(UserError, match="steps: expected a whole number of at least 1"):
        BrunoClassifier(flow="dense", steps=0).fit(moons, labels)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"process": "cauchy"}, "process: expected one of auto, gaussian, student_t"),
        ({"flow": "paper"}, "flow: expected one of None, diagonal, affine, dense"),
        ({"model": 3}, "model: expected a Bruno, a path, a name or None"),
        ({"model": "nothing"}, "nothing"),
        ({"marginal_map": "log"}, "marginal_map: expected one of auto, None, yeo_johnson"),
        ({"flow": "dense", "marginal_map": "yeo_johnson"}, "marginal_map: expected 'auto' or None"),
        ({"scale": "rows"}, "scale: expected one of auto, per_feature, global"),
        ({"device": "tpu"}, "device: expected one of auto, cpu, cuda"),
        ({"process": []}, "process: expected one of auto, gaussian, student_t"),
        ({"unknown_prior": "some"}, r"unknown_prior: expected a number in \(0, 1\)"),
        ({"unknown_prior": True}, r"unknown_prior: expected a number in \(0, 1\)"),
        ({"temperature": "hot"}, "temperature: expected 'auto' or a positive number"),
        ({"temperature": 0}, "temperature: expected 'auto' or a positive number"),
        ({"temperature": None}, "temperature: expected 'auto' or a positive number"),
        ({"temperature": np.inf}, "temperature: expected 'auto' or a positive number"),
        ({"class_prior": ["a", "b"]}, "class_prior: expected 'uniform', 'empirical' or positive"),
        ({"class_prior": [0.5, 0.6]}, "class_prior: expected 'uniform', 'empirical' or positive"),
        ({"steps": 2.5}, "steps: expected a whole number"),
        ({"random_state": "seed"}, "random_state: expected None, a seed or a RandomState"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(UserError, match=message):
        BrunoClassifier(**parameters).fit(X, Y)


def test_a_fit_that_fails_changes_nothing():
    classifier = BrunoClassifier(process="cauchy")
    with pytest.raises(UserError, match="process"):
        classifier.fit(X, Y)
    assert not hasattr(classifier, "n_features_in_")
    with pytest.raises(NotFittedError):
        classifier.predict(X)
    classifier = fitted()
    state, expected = dict(vars(classifier)), classifier.predict_proba(X)
    for x, y in [(X[:, :2], Y[:-1]), (X[:, :2], X), (X * np.nan, Y)]:
        with pytest.raises(ValueError, match=r"y: expected|target|NaN"):
            classifier.fit(x, y)
        assert vars(classifier) == state
    np.testing.assert_array_equal(classifier.predict_proba(X), expected)


def test_many_classes_take_memory_in_proportion():
    def size(number):
        x = np.random.default_rng(0).normal(size=(number, 50))
        classifier = BrunoClassifier(flow="diagonal", temperature=1.0).fit(x, np.arange(number))
        return len(pickle.dumps(classifier))

    assert size(400) < 3 * size(200)


def test_classes_come_and_go_in_any_order():
    x = np.random.default_rng(0).normal(size=(60, 5))
    y = np.random.default_rng(1).permutation(np.repeat(np.arange(20), 3))
    model = BrunoClassifier(temperature=1.0).fit(x, y).model_
    classifier = BrunoClassifier(model=model, temperature=1.0).fit(x[:3], [50, 40, 30])
    for row in range(60):
        classifier.partial_fit(x[row : row + 1], y[row : row + 1])
    gone = np.isin(y, [3, 0, 19, 11])
    classifier.forget(x[gone], y[gone]).forget(x[:3], [50, 40, 30])
    fresh = BrunoClassifier(model=model, temperature=1.0).fit(x[~gone], y[~gone])
    np.testing.assert_array_equal(classifier.classes_, fresh.classes_)
    np.testing.assert_array_equal(classifier.evidence_.count, fresh.evidence_.count)
    np.testing.assert_allclose(
        classifier.predict_log_proba(x), fresh.predict_log_proba(x), atol=1e-9
    )
    copied = pickle.loads(pickle.dumps(classifier))  # noqa: S301
    np.testing.assert_array_equal(copied.predict_proba(x), classifier.predict_proba(x))


def test_evidence_that_was_read_does_not_change():
    classifier = fitted()
    evidence = classifier.evidence_
    count, mean = evidence.count.clone(), evidence.mean.clone()
    classifier.partial_fit(X, Y)
    assert torch.equal(evidence.count, count)
    assert torch.equal(evidence.mean, mean)


def test_many_elements_are_scored_in_parts(monkeypatch):
    classifier = fitted(unknown_prior=0.1).partial_fit(X[:3] + 1, [-7, 9, -5])
    probabilities, predicted = classifier.predict_proba(X), classifier.predict(X)
    monkeypatch.setattr("bruno.estimators.classifier._FEWEST_AT_ONCE", 7)
    monkeypatch.setattr("bruno.chunks.TABLE_ELEMENTS", 7)
    np.testing.assert_allclose(classifier.predict_proba(X), probabilities, atol=1e-12)
    np.testing.assert_array_equal(classifier.predict(X), predicted)


def test_a_class_far_away_costs_others_no_digits():
    model = fitted(temperature=1.0).model_
    near = BrunoClassifier(model=model, temperature=1.0).fit(X, Y)
    expected = near.predict_log_proba(X)
    far = clone(near).fit(X, Y).partial_fit(X[:5] + 1e9, np.full(5, 7))
    np.testing.assert_allclose(far.predict_log_proba(X)[:, :3], expected, atol=1e-9)
    # Two classes far away are told from each other.
    far.partial_fit(X[:5] + 1e9 + 3, np.full(5, 8))
    elements = torch.from_numpy(X[:10] + 1e9)
    with torch.no_grad():
        seven, eight = (
            model.condition(torch.from_numpy(X[:5] + 1e9 + shift)).log_prob(elements)
            for shift in (0, 3)
        )
    log_odds = np.diff(far.predict_log_proba(elements.numpy())[:, 3:])[:, 0]
    np.testing.assert_allclose(log_odds, (eight - seven).numpy(), rtol=1e-6)


@processes
def test_what_is_too_far_away_for_numbers_is_refused_and_nothing_changes(process):
    classifier = fitted(process=process)
    before = classifier.predict_log_proba(X)
    for method in (classifier.partial_fit, classifier.forget):
        with pytest.raises(UserError, match="X: expected elements less than"):
            method(X[:1] * 1e300, Y[:1])
    with pytest.raises(UserError, match="X: expected elements less than"):
        classifier.predict(X * 1e300)
    np.testing.assert_array_equal(classifier.predict_log_proba(X), before)
    assert np.isfinite(classifier.predict_log_proba(X * 1e50)).all()


def test_an_outlier_is_forgotten_exactly_or_not_at_all():
    for process, near, far in [("student_t", 1e2, 1e7), ("gaussian", 1e5, 1e14)]:
        classifier = fitted(process=process)
        before = classifier.predict_log_proba(X)
        classifier.partial_fit(X[:1] + near, Y[:1]).forget(X[:1] + near, Y[:1])
        np.testing.assert_allclose(classifier.predict_log_proba(X), before, rtol=1e-9, atol=1e-9)
        classifier.partial_fit(X[:1] + far, Y[:1])
        count = classifier.evidence_.count
        with pytest.raises(UserError, match="forget: expected elements nearer to the others"):
            classifier.forget(X[:1] + far, Y[:1])
        assert torch.equal(classifier.evidence_.count, count)


def test_tables_of_more_than_two_dimensions_are_refused():
    with pytest.raises(ValueError, match="dim 3"):
        BrunoClassifier().fit(X.reshape(150, 2, 2), Y)
    with pytest.raises(ValueError, match="dim 3"):
        fitted().predict(X.reshape(150, 2, 2))


def test_dense_flows_learn_from_sets_beside_a_class_of_one(monkeypatch):
    configs = []

    def objective(model, config):
        configs.append(config)
        return Objective(model, config)

    monkeypatch.setattr("bruno.estimators.dense.Objective", objective)
    classifier = BrunoClassifier(flow="dense", steps=1, temperature=1.0, random_state=0)
    classifier.fit(X[:101], Y[:101])
    classifier.fit(X[[0, 60, 120]], Y[[0, 60, 120]])
    assert [config.discriminative_weight for config in configs] == [1.0, 0.0]


@pytest.mark.parametrize("scale", ["per_feature", "global"])
def test_dense_flows_are_the_same_in_any_unit(scale):
    parameters = {"scale": scale, "flow": "dense", "steps": 3, "temperature": 1.0}
    expected = BrunoClassifier(random_state=0, **parameters).fit(X, Y).predict_proba(X)
    small = BrunoClassifier(random_state=0, **parameters).fit(X * 1e-8, Y)
    np.testing.assert_allclose(small.predict_proba(X * 1e-8), expected, atol=1e-6)


@pytest.mark.parametrize("verbose", [False, True])
def test_progress_is_shown_on_a_terminal_if_asked(verbose, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(progress, "PATIENCE", -1)
    monkeypatch.setenv("TERM", "xterm")
    BrunoClassifier(unknown_prior=0.1, verbose=verbose).fit(X, Y).predict(X)
    BrunoClassifier(flow="dense", steps=1, verbose=verbose).fit(X, Y)
    BrunoClassifier(verbose=verbose).fit(np.tile(X[::10], 3), Y[::10])
    for work in (
        "choosing the model",
        "choosing the temperature",
        "leaving classes out",
        "scoring",
        "learning the flow",
    ):
        assert (work in terminal.getvalue()) == verbose
    assert capsys.readouterr().out == ""


def test_in_pipelines_and_searches():
    pipeline = make_pipeline(StandardScaler(), BrunoClassifier(random_state=0))
    search = GridSearchCV(pipeline, {"brunoclassifier__process": ["gaussian", "student_t"]}, cv=3)
    assert search.fit(X, Y).best_score_ > 0.9


def test_one_example_of_each_class():
    classifier = BrunoClassifier().fit(X[[0, 60, 120]], Y[[0, 60, 120]])
    assert classifier.score(X, Y) > 0.6
    one = BrunoClassifier().fit(X[:1], ["only"])
    assert one.predict(X[5:7]).tolist() == ["only", "only"]


@pytest.mark.parametrize("name", ["classes_", "evidence_", "unknown_label_"])
def test_nothing_is_known_before_the_fit(name):
    with pytest.raises(NotFittedError):
        getattr(BrunoClassifier(), name)
