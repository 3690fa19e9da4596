"""What was never given is not forgotten, where the evidence of its class shows that."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bruno import BrunoClassifier, BrunoDensity, UserError
from tests.estimators.iris import X, Y, fitted

never_seen = pytest.raises(UserError, match=r"forget: expected elements that are part|nearer to")


def test_the_wrong_class_of_few_examples_is_noticed():
    digits, names = load_digits(return_X_y=True)
    model = BrunoClassifier(temperature=1.0).fit(digits[:500], names[:500]).model_
    for number in (1, 2, 3):
        rows = np.concatenate([np.flatnonzero(names == k)[:number] for k in range(10)])
        classifier = BrunoClassifier(model, temperature=1.0).fit(digits[rows], names[rows])
        before = classifier.predict_log_proba(digits[:50])
        for row in rows[::3]:
            for label in range(10):
                if label != names[row]:
                    with never_seen:
                        classifier.forget(digits[row : row + 1], [label])
            # Nor is another example of the class taken for one of so few.
            other = np.flatnonzero(names == names[row])[number]
            with never_seen:
                classifier.forget(digits[other : other + 1], names[row : row + 1])
        np.testing.assert_array_equal(classifier.predict_log_proba(digits[:50]), before)
        for row in rows[1:]:
            classifier.forget(digits[row : row + 1], names[row : row + 1])
        assert classifier.classes_.tolist() == [0]


@pytest.mark.parametrize("flow", ["diagonal", "affine"])
def test_one_wrong_row_among_thousands_is_noticed_where_nothing_would_be_left(flow):
    rng = np.random.default_rng(0)
    many = X[rng.integers(0, 150, 40_000)] + 0.1 * rng.normal(size=(40_000, 4))
    classifier = fitted(flow=flow, temperature=1.0).partial_fit(many, np.full(len(many), 7))
    wrong = many.copy()
    wrong[17] = X[60]
    for rows in (wrong, wrong[1:]):  # one element left, or none
        with never_seen:
            classifier.forget(rows, np.full(len(rows), 7))
    classifier.forget(many, np.full(len(many), 7))
    assert classifier.classes_.tolist() == [0, 1, 2]


def test_a_class_far_away_in_one_column_is_as_well_guarded_in_the_others():
    model = fitted(flow="diagonal").model_
    far = X[:20] + np.array([1e5, 0, 0, 0])
    density = BrunoDensity(model).fit(far)
    with never_seen:
        density.forget(far[:1] + np.array([0, 0, 20.0, 0]))
    density.forget(far[:1])
    assert int(density.evidence_.count) == 19


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
def test_a_long_history_is_forgotten_to_the_last_element(process):
    rng = np.random.default_rng(0)
    rows = X[rng.integers(0, 150, 600)] + rng.normal(size=(600, 4))
    classifier = fitted(process=process, flow="diagonal", temperature=1.0)
    expected = classifier.predict_log_proba(X)
    for row in rows:
        classifier.partial_fit(row[None], [9])
    for row in rng.permutation(rows):
        classifier.forget(row[None], [9])
    np.testing.assert_array_equal(classifier.predict_log_proba(X), expected)


def test_a_mislabelled_example_is_taken_back_however_unlikely_it_is():
    classifier = fitted(flow="affine", temperature=1.0)
    expected = classifier.predict_log_proba(X)
    for row in (X[0] + 30, X[140]):
        classifier.partial_fit(row[None], [0]).forget(row[None], [0])
        np.testing.assert_allclose(classifier.predict_log_proba(X), expected, atol=1e-9)


def test_a_plausible_row_of_a_large_class_is_not_noticed():
    classifier = fitted(flow="diagonal", temperature=1.0)
    middle = X[::2][Y[::2] == 1].mean(0, keepdims=True)
    classifier.forget(middle, [1])
    assert classifier.evidence_.count.tolist() == [25, 24, 25]
    assert torch.isfinite(classifier.evidence_.scatter).all()
