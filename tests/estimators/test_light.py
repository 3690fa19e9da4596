"""One row at a time, in numpy, is what many rows are, in torch."""

import copy
import pickle

import numpy as np
import pandas as pd
import pytest

from bruno import BrunoClassifier, UserError
from bruno.estimators.light import LightModel

RNG = np.random.default_rng(0)
KINDS = {
    "affine": {"process": "gaussian", "flow": "affine"},
    "student_t": {"process": "student_t", "flow": "affine"},
    "diagonal": {"process": "student_t", "flow": "diagonal"},
    "bent": {"marginal_map": "yeo_johnson", "class_prior": "empirical"},
    "low rank": {"flow": "affine"},
    "own": {"covariance": "own", "process": "student_t"},
}


def fitted(kind, **parameters):
    dim, number = (40, 10) if kind == "low rank" else (5, 90)
    y = np.array(["a", "b", "c"])[np.arange(number) % 3]
    x = np.exp(
        0.5 * (RNG.normal(size=(number, dim)) + RNG.normal(size=(3, dim))[np.arange(number) % 3])
    )
    x[0, 0], x[1, 0] = 50.0, 1e-9
    return BrunoClassifier(random_state=0, **KINDS[kind], **parameters).fit(x, y), x, y


def one_by_one(method, x):
    return np.concatenate([method(row[None]) for row in x])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_rows_are_predicted_as_a_batch_is(kind, noise):
    classifier, x, _ = fitted(kind, temperature=2.0)
    classifier.label_noise_ = noise
    assert classifier._log_proba_of_one(x[:1]) is not None
    for method in (classifier.predict_log_proba, classifier.predict_proba):
        np.testing.assert_allclose(one_by_one(method, x), method(x), rtol=0, atol=1e-9)
    assert (one_by_one(classifier.predict, x) == classifier.predict(x)).all()
    assert classifier.predict(x[:1]).dtype == classifier.predict(x).dtype


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_taken_as_a_batch_is_and_forgotten(kind):
    one, x, y = fitted(kind, temperature=2.0)
    many, before = copy.deepcopy(one), one.predict_log_proba(x)
    for row, label in zip(x[::2], y[::2], strict=True):
        one.partial_fit(row[None], np.array([label]))
        one.predict(row[None])  # and what was prepared for it is not used again
    many.partial_fit(x[::2], y[::2])
    for name in ("count", "mean", "scatter"):
        ours, theirs = getattr(one.evidence_, name), getattr(many.evidence_, name)
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)
    after = many.predict_log_proba(x)
    np.testing.assert_allclose(one_by_one(one.predict_log_proba, x), after, rtol=0, atol=1e-9)
    again = pickle.loads(pickle.dumps(one))  # noqa: S301
    np.testing.assert_allclose(again.predict_log_proba(x[:1]), after[:1], rtol=0, atol=1e-9)
    one.forget(x[::2], y[::2])
    np.testing.assert_allclose(one.predict_log_proba(x), before, rtol=0, atol=1e-9)
    np.testing.assert_allclose(one_by_one(one.predict_log_proba, x), before, rtol=0, atol=1e-9)


def test_classes_that_come_and_go_are_predicted():
    classifier, x, _ = fitted("student_t", temperature=2.0)
    classifier.predict(x[:1])
    classifier.partial_fit(x[:1] + 9, np.array(["d"])).partial_fit(x[:1], ["b"], classes=["e"])
    assert classifier.predict(x[:1] + 9) == "d"
    assert classifier.predict_proba(x[:1]).shape == (1, 5)
    classifier.forget(x[:1] + 9, np.array(["d"]))
    np.testing.assert_allclose(
        classifier.predict_proba(x[:1]), classifier.predict_proba(x)[:1], rtol=0, atol=1e-9
    )


def test_what_is_not_plain_takes_the_long_way():
    classifier, x, y = fitted("affine")
    whole = classifier.predict_proba(x)
    for row in (x[:1].astype(np.float32), x[:1].tolist()):
        np.testing.assert_allclose(classifier.predict_proba(row), whole[:1], atol=1e-5)
    for bad in (
        np.full((1, 5), np.nan),
        np.full((1, 5), np.inf),
        x[:1, :4],
        np.full((1, 5), 1e300),
    ):
        with pytest.raises(ValueError, match=r"NaN|infinity|features|standard deviations"):
            classifier.predict(bad)
        with pytest.raises(ValueError, match=r"NaN|infinity|features|standard deviations"):
            classifier.partial_fit(bad, y[:1])
    with pytest.raises(UserError, match="y: expected strings"):
        classifier.partial_fit(x[:1], np.array([1]))
    named = BrunoClassifier().fit(pd.DataFrame(x).add_prefix("x"), y)
    with pytest.warns(UserWarning, match="feature names"):
        named.predict(x[:1])
    rejecting, x, _ = fitted("affine", unknown_prior=0.1)
    np.testing.assert_allclose(
        rejecting.predict_proba(x[:1]), rejecting.predict_proba(x)[:1], rtol=0, atol=1e-9
    )


def test_models_of_other_kinds_have_no_short_way():
    x = RNG.normal(size=(30, 4))
    dense = BrunoClassifier(flow="dense", steps=1, temperature=1.0).fit(x, np.arange(30) % 3)
    assert LightModel.of(dense.model_) is None
    assert dense.predict(x[:1]).shape == (1,)
