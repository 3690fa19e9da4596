import gc
import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score

from bruno import BrunoClassifier, UserError
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
    with pytest.raises(
        UserError, match=f"y: expected no class {names[1]!r}, which with unknown_prior"
    ):
        BrunoClassifier(unknown_prior=0.1).fit(X[both], labels[both])
    classifier = BrunoClassifier(unknown_prior=0.1, temperature=1.0).fit(X[first], labels[first])
    with pytest.raises(UserError, match=f"y: expected no class {names[1]!r}"):
        classifier.partial_fit(X[~first], labels[~first])
    with pytest.raises(UserError, match=f"classes: expected no class {names[1]!r}"):
        classifier.partial_fit(X[first], labels[first], classes=names)
    assert classifier.classes_.tolist() == names[:1]
    without = BrunoClassifier(temperature=1.0).fit(X[both], labels[both])
    with pytest.raises(UserError, match=f"unknown_prior: expected no class {names[1]!r}"):
        without.set_params(unknown_prior=0.1).predict(X)


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
    classifier = BrunoClassifier(unknown_prior=0.3, temperature=1.0).fit(
        X[known], classes[Y[known]]
    )
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


@pytest.mark.parametrize("shared", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
def test_arrays_of_labels_are_not_kept(shared, tmp_path):
    classifier = BrunoClassifier(temperature=1.0).fit(X[:100], Y[:100])
    label = np.zeros(1, int)
    for k in (5, 6, 7):
        label[0] = k
        classifier.partial_fit(X[k : k + 1], shared(label))
    assert classifier.classes_.tolist() == [0, 1, 5, 6, 7]
    labels, classes = np.array([8, 9]), np.array([3, 4])
    classifier.partial_fit(X[:2], shared(labels), classes=shared(classes))
    labels[:], classes[:] = 99, 98
    expected = [0, 1, 3, 4, 5, 6, 7, 8, 9]
    classifier.save(tmp_path / "saved")
    assert BrunoClassifier.load(tmp_path / "saved").classes_.tolist() == expected
    assert set(classifier.predict(X)) <= set(expected)
    fitted_to = np.array(Y)
    classifier.fit(X, shared(fitted_to))
    fitted_to[:] = 7
    assert classifier.classes_.tolist() == [0, 1, 2]


def test_memory_does_not_grow_with_classes_that_came_and_went():
    classifier = fitted(flow="diagonal", temperature=1.0)
    sizes = []
    for batch in range(3):
        for k in range(200):
            name = [1000 + 200 * batch + k]
            classifier.partial_fit(X[:1], name).forget(X[:1], name)
        tracked = gc.get_referents(*gc.get_referents(classifier._known, vars(classifier._known)))
        sizes.append((len(pickle.dumps(classifier)), len(tracked)))
    assert len(set(sizes)) == 1


@pytest.mark.parametrize("unknown_prior", [None, 0.3])
def test_bytes_as_labels_are_whole_numbers_to_scorers(unknown_prior, tmp_path):
    y = Y.astype("uint8")
    classifier = BrunoClassifier(unknown_prior=unknown_prior, temperature=1.0).fit(X, y)
    classifier.save(tmp_path / "saved")
    for estimator in (classifier, BrunoClassifier.load(tmp_path / "saved")):
        assert estimator.score(X, y) > 0.9
        assert balanced_accuracy_score(y, estimator.predict(X)) > 0.9
        estimator.partial_fit(X[:2], np.array([3, 1000]))
        assert estimator.classes_.dtype == np.int64
        assert estimator.classes_.tolist() == [0, 1, 2, 3, 1000]
        assert estimator.predict(X).dtype == np.int64
        assert balanced_accuracy_score(Y, estimator.predict(X)) > 0.5
    unsigned = BrunoClassifier(temperature=1.0).fit(X[:2], np.array([1, 2], dtype="uint64"))
    unsigned.partial_fit(X[:1], np.array([-3]))
    assert unsigned.classes_.dtype == np.int64
    unsigned.partial_fit(X[:1], np.array([2**63])).forget(X[:1], np.array([-3]))
    assert unsigned.classes_.dtype == np.uint64


LARGE = 2**53 + Y


@pytest.mark.parametrize(
    "labels",
    [
        LARGE,
        LARGE.tolist(),
        pd.Series(LARGE),
        pd.Series(LARGE, dtype="Int64"),
        pd.Series(LARGE.astype("uint64"), dtype="UInt64"),
        pd.DataFrame({"label": pd.Series(LARGE, dtype="Int64")}),
        pd.Series(LARGE, dtype="category"),
        torch.from_numpy(LARGE),
    ],
    ids=["array", "list", "series", "Int64", "UInt64", "frame", "category", "tensor"],
)
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_large_integers_stay_exact(labels, tmp_path):
    classifier = BrunoClassifier(temperature=1.0).fit(X, labels)
    assert classifier.classes_.tolist() == [2**53, 2**53 + 1, 2**53 + 2]
    classifier.partial_fit(X, labels, classes=labels).partial_fit(X[:1], [4.0])
    assert classifier.classes_.tolist() == [4, 2**53, 2**53 + 1, 2**53 + 2]
    assert classifier.evidence_.count.tolist() == [1, 100, 100, 100]
    classifier.save(tmp_path / "saved")
    assert (
        BrunoClassifier.load(tmp_path / "saved").classes_.tolist() == classifier.classes_.tolist()
    )
    assert set(classifier.predict(X)) <= set(classifier.classes_.tolist())


@pytest.mark.parametrize(
    "labels",
    [
        [2**53 + 1, 4.0],
        np.array([2.0**53, 1.0]),
        np.array([2.0**24, 1.0], dtype=np.float32),
        pd.Series([2**53 + 1, None], dtype="Int64"),
        pd.Series([float(2**60), 1.0]),
    ],
    ids=["mixed", "float64", "float32", "missing", "series"],
)
def test_labels_that_may_have_been_rounded_are_refused(labels):
    with pytest.raises(ValueError, match="y: expected"):
        BrunoClassifier(temperature=1.0).fit(X[:2], labels)
    known = BrunoClassifier(temperature=1.0).fit(X[:2], [2**53 + 1, 2**53 + 3])
    with pytest.raises(ValueError, match="y: expected"):
        known.partial_fit(X[:2], labels)
    with pytest.raises(UserError, match="classes: expected"):
        known.partial_fit(X[:1], [2**53 + 1], classes=labels)
    assert known.classes_.tolist() == [2**53 + 1, 2**53 + 3]
    assert known.evidence_.count.tolist() == [1, 1]


def test_integers_of_both_signs_and_any_size_are_told_apart():
    names = [-1, 0, 2**63 - 1, 2**63, 2**64 - 1]
    classifier = BrunoClassifier(temperature=1.0).fit(X[:5], names)
    classifier.partial_fit(X[5:10], classifier.classes_).partial_fit(X[10:11], [-(2**70)])
    assert classifier.classes_.tolist() == [-(2**70), *names]
    assert classifier.evidence_.count.tolist() == [1, 2, 2, 2, 2, 2]
    assert set(classifier.predict(X).tolist()) <= {*classifier.classes_.tolist()}
    classifier.forget(X[:1], names[:1]).forget(X[5:6], names[:1]).forget(X[10:11], [-(2**70)])
    assert classifier.classes_.dtype == np.uint64


def test_nullable_columns_of_labels_are_taken_for_what_they_are():
    for values, dtype in (([True, False], "boolean"), (["a", "b"], "string"), ([3, 4], "Int8")):
        classifier = BrunoClassifier(temperature=1.0).fit(X[:2], pd.Series(values, dtype=dtype))
        assert classifier.classes_.tolist() == sorted(values)
        assert classifier.classes_.dtype.kind in "bOi"
