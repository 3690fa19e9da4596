import numpy as np
import pytest

from bruno import (
    BrunoClassifier,
    UserError,
)
from tests.estimators.iris import X, Y, fitted


def test_classes_of_another_type_are_refused_and_nothing_changes():
    classifier = fitted()
    before = classifier.predict_log_proba(X)
    with pytest.raises(UserError, match="y: expected numbers, as the classes known, got strings"):
        classifier.partial_fit(X[:2], ["a", "b"])
    with pytest.raises(UserError, match=r"classes: expected numbers, .*, got strings"):
        classifier.partial_fit(X[:1], Y[:1], classes=["a"])
    with pytest.raises(UserError, match="classes: expected the labels of classes"):
        classifier.partial_fit(X[:1], Y[:1], classes=[[0], [1, 2]])
    with pytest.raises(UserError, match="classes: expected the labels of classes"):
        classifier.partial_fit(X[:1], Y[:1], classes=3)
    np.testing.assert_array_equal(classifier.predict_log_proba(X), before)
    first = BrunoClassifier()
    with pytest.raises(UserError, match=r"classes: expected numbers, .*, got strings"):
        first.partial_fit(X, Y, classes=["a"])
    assert not hasattr(first, "model_")
    assert not hasattr(first, "n_features_in_")


@pytest.mark.parametrize("names", [[0, -1], ["a", "unknown"]])
def test_no_class_is_called_what_is_rejected_is(names):
    both, first = Y < 2, Y == 0
    labels = np.asarray(names)[np.minimum(Y, 1)]
    with pytest.raises(UserError, match=f"y: expected no class {names[1]!r}, which with reject"):
        BrunoClassifier(reject=0.1).fit(X[both], labels[both])
    classifier = BrunoClassifier(reject=0.1, temperature=1.0).fit(X[first], labels[first])
    with pytest.raises(UserError, match=f"y: expected no class {names[1]!r}"):
        classifier.partial_fit(X[~first], labels[~first])
    with pytest.raises(UserError, match=f"classes: expected no class {names[1]!r}"):
        classifier.partial_fit(X[first], labels[first], classes=names)
    assert classifier.classes_.tolist() == names[:1]
    without = BrunoClassifier(temperature=1.0).fit(X[both], labels[both])
    with pytest.raises(UserError, match=f"reject: expected no class {names[1]!r}"):
        without.set_params(reject=0.1).predict(X)


@pytest.mark.parametrize(
    "classes",
    [
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        np.array([b"a", b"b"]),
        np.array([False, True]),
        np.array([3, 200], dtype=np.uint8),
        np.array([2**63, 2**63 + 1], dtype=np.uint64),
        np.array([1.0, 2.0], dtype=np.float32),
    ],
    ids=lambda classes: classes.dtype.name,
)
def test_labels_of_every_type_survive(classes):
    known = Y < 2
    classifier = BrunoClassifier(reject=0.3, temperature=1.0).fit(X[known], classes[Y[known]])
    predicted = classifier.predict(np.concatenate([X, X[:1] + 100]))
    assert predicted[-1] == classifier.unknown_label_
    assert set(predicted.tolist()) == {*classes.tolist(), classifier.unknown_label_}
    classifier.partial_fit(X[:1], classes[:1]).forget(X[known][Y[known] == 1], classes[Y[Y == 1]])
    assert classifier.classes_.tolist() == classes[:1].tolist()
    assert classifier.classes_.dtype == classes.dtype


def test_labels_are_sorted_however_they_came():
    classifier = BrunoClassifier(random_state=0).fit(X[50:], Y[50:])
    names = [7, 2**63, 3, -5, 2**63]
    for name in names:
        classifier.partial_fit(X[:1], np.array([name]))
    classifier.forget(X[:1], np.array([7]))
    assert classifier.classes_.tolist() == [-5, 1, 2, 3, 2**63]
    classifier.partial_fit(X[:1], np.array([7]))
    assert classifier.classes_.tolist() == [-5, 1, 2, 3, 7, 2**63]
    assert classifier.predict_proba(X).shape == (150, 6)
    assert classifier.evidence_.count.tolist() == [1, 50, 50, 1, 1, 2]
    classifier.partial_fit(X[:1], np.array([2**63 + 1025])).partial_fit(X[:1], np.array([4.0]))
    assert classifier.classes_.tolist() == [-5, 1, 2, 3, 4, 7, 2**63, 2**63 + 1025]


def test_labels_of_two_kinds_and_priors_of_none_are_refused():
    with pytest.raises(UserError, match="y: expected all numbers or all strings"):
        BrunoClassifier().fit(X[:2], np.array(["a", 1], dtype=object))
    days = np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[D]")
    with pytest.raises(UserError, match="y: expected all numbers or all strings, got date"):
        BrunoClassifier().fit(X[:2], days)
    with pytest.raises(UserError, match="class_prior: expected one of uniform, empirical"):
        fitted().set_params(class_prior="foo").predict(X)
