"""Classes that change with time: a window of the latest examples, and evidence that fades."""

import numpy as np
import pytest
import torch

from bruno import BrunoClassifier, Evidence, UserError
from bruno.estimators.encoding import encoded
from tests.estimators.iris import X, Y

ORDER = np.random.default_rng(0).permutation(len(X))
X, Y = X[ORDER], Y[ORDER]
MODEL = BrunoClassifier(temperature=1.0).fit(X, Y).model_


def evidence_of(rows, weights=None):
    z, _ = encoded(MODEL, X[rows])
    labels = torch.from_numpy(Y[rows])
    weights = torch.ones(len(z), dtype=torch.float64) if weights is None else weights
    found = {}
    for label in labels.unique().tolist():
        w, part = weights[labels == label].unsqueeze(1), z[labels == label]
        mean = (w * part).sum(0) / w.sum()
        found[label] = w.sum(), mean, (w * (part - mean).square()).sum(0)
    return found


def assert_same(classifier, expected):
    assert classifier.classes_.tolist() == sorted(expected)
    evidence = classifier.evidence_
    for k, label in enumerate(sorted(expected)):
        count, mean, scatter = expected[label]
        assert float(evidence.count[k]) == pytest.approx(float(count), rel=1e-9)
        torch.testing.assert_close(evidence.mean[k], mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(evidence.scatter[k], scatter, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("step", [1, 7])
def test_with_a_window_only_the_latest_examples_count(step, tmp_path):
    classifier = BrunoClassifier(MODEL, window=20, temperature=1.0).fit(X[:30], Y[:30])
    assert_same(classifier, evidence_of(range(10, 30)))
    for start in range(30, 72, step):
        classifier.partial_fit(X[start : start + step], Y[start : start + step])
        assert_same(classifier, evidence_of(range(start + step - 20, start + step)))
    classifier.save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved").partial_fit(X[72:75], Y[72:75])
    assert_same(loaded, evidence_of(range(55, 75)))


def test_a_class_that_leaves_the_window_is_gone_and_comes_back():
    rows = np.argsort(Y, kind="stable")
    classifier = BrunoClassifier(MODEL, window=60, temperature=1.0).fit(X, Y)
    classifier.partial_fit(X[rows][100:150], Y[rows][100:150])
    classifier.partial_fit(X[rows][110:130], Y[rows][110:130])
    assert classifier.classes_.tolist() == [2]
    assert classifier.partial_fit(X[rows][:1], Y[rows][:1]).classes_.tolist() == [0, 2]


def test_forgetting_leaves_the_window():
    classifier = BrunoClassifier(MODEL, window=20, temperature=1.0).fit(X[:20], Y[:20])
    classifier.forget(X[3:5], Y[3:5])
    left = [*range(3), *range(5, 20)]
    assert_same(classifier, evidence_of(left))
    with pytest.raises(UserError, match="forget: expected elements of the last 18"):
        classifier.forget(X[3:4], Y[3:4])
    classifier.partial_fit(X[20:25], Y[20:25])
    assert_same(classifier, evidence_of([*left, *range(20, 25)][-20:]))


@pytest.mark.parametrize("step", [1, 7])
def test_evidence_fades(step, tmp_path):
    classifier = BrunoClassifier(MODEL, half_life=10, temperature=1.0).fit(X[:30], Y[:30])
    for start in range(30, 72, step):
        classifier.partial_fit(X[start : start + step], Y[start : start + step])
    weights = 0.5 ** (torch.arange(71, -1, -1, dtype=torch.float64) / 10)
    assert_same(classifier, evidence_of(range(72), weights))
    classifier.save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.predict_proba(X), classifier.predict_proba(X))
    loaded.partial_fit(X[:1], Y[:1], classes=[7])
    assert loaded.classes_.tolist() == [0, 1, 2, 7]
    assert float(loaded.evidence_.count[3]) == 0
    with pytest.raises(UserError, match="forget: expected half_life=None"):
        classifier.forget(X[:1], Y[:1])


def test_both_follow_classes_that_exchange_their_labels():
    start = {"random_state": 0, "class_prior": "uniform"}
    scores = []
    for parameters in ({}, {"window": 40}, {"half_life": 20}):
        classifier = BrunoClassifier(**start, **parameters).fit(X[:75], Y[:75])
        for row in range(75, 150):
            classifier.partial_fit(X[row : row + 1], (Y[row : row + 1] + 1) % 3)
        scores.append(classifier.score(X, (Y + 1) % 3))
    assert min(scores[1:]) > 0.9 > scores[0] + 0.2


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"window": 0}, "window: expected a whole number of at least 1"),
        ({"half_life": -1}, "half_life: expected a positive number"),
        ({"window": 10, "half_life": 10}, "half_life: expected None beside a window"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises(UserError, match=message):
        BrunoClassifier(**parameters).fit(X, Y)


def test_weighted_evidence_counts_like_repeated_elements():
    z, classes = torch.from_numpy(X[:6]), torch.tensor([0, 1, 0, 1, 0, 0])
    weight = torch.tensor([1, 3, 2, 1, 1, 4])
    found = Evidence.by_class(z, classes, weight.double())
    expected = Evidence.by_class(z.repeat_interleave(weight, 0), classes.repeat_interleave(weight))
    torch.testing.assert_close(found.count, expected.count.double())
    torch.testing.assert_close(found.mean, expected.mean)
    torch.testing.assert_close(found.scatter, expected.scatter)
