"""The adapter for river keeps river's rules and is the classifier it wraps."""

import numpy as np
import pytest
from river import checks, datasets

from bruno import BrunoClassifier, UserError
from bruno.river import BrunoRiverClassifier
from tests.estimators.iris import X, Y

ORDER = np.random.default_rng(0).permutation(len(X))
STREAM = [(dict(zip("abcd", X[row].tolist(), strict=True)), int(Y[row])) for row in ORDER]


def name_of(check):
    """Name of a check, without its address: all processes must find the same tests."""
    return getattr(check, "func", check).__name__


@pytest.mark.parametrize("check", checks.yield_checks(BrunoRiverClassifier()), ids=name_of)
def test_river(check, monkeypatch):
    # A shorter stream of river's own: every check learns it anew, one example at a time.
    for name in ("Phishing", "ImageSegments"):
        kind = getattr(datasets, name)
        whole = kind.__iter__
        monkeypatch.setattr(
            kind,
            "__iter__",
            lambda self, whole=whole: (e for e, _ in zip(whole(self), range(130))),  # noqa: B905
        )
    check(BrunoRiverClassifier(warm_up=60))


def test_it_is_the_classifier_it_wraps():
    model = BrunoRiverClassifier(warm_up=60, seed=0)
    for x, y in STREAM[:100]:
        model.learn_one(x, y)
    expected = BrunoClassifier(random_state=0).fit(X[ORDER[:60]], Y[ORDER[:60]])
    expected.partial_fit(X[ORDER[60:100]], Y[ORDER[60:100]])
    for (x, _), row in zip(STREAM[100:120], ORDER[100:120], strict=True):
        found = model.predict_proba_one(x)
        np.testing.assert_allclose(list(found.values()), expected.predict_proba(X[[row]])[0])


@pytest.mark.parametrize("warm_up", [60, 200])
def test_unlearning_is_never_having_learnt(warm_up):
    first, second = (BrunoRiverClassifier(warm_up=warm_up, seed=0) for _ in range(2))
    for x, y in STREAM[:80]:
        first.learn_one(x, y)
        second.learn_one(x, y)
    for x, y in STREAM[80:100]:
        first.learn_one(x, y)
    for x, y in STREAM[80:100]:
        first.unlearn_one(x, y)
    for x, _ in STREAM[100:]:
        expected = second.predict_proba_one(x)
        assert first.predict_proba_one(x) == pytest.approx(expected, abs=1e-9)


def test_features_are_those_of_the_first_examples():
    model = BrunoRiverClassifier(warm_up=60, seed=0)
    for x, y in STREAM[:60]:
        model.learn_one(x, y)
    x = STREAM[70][0]
    proba = model.predict_proba_one(x)
    assert model.predict_proba_one({**x, "e": 3.0}) == proba
    mean = X[ORDER[:60]][:, 1].mean()
    less = {name: value for name, value in x.items() if name != "b"}
    assert model.predict_proba_one(less) == pytest.approx(model.predict_proba_one({**x, "b": mean}))
    with pytest.raises(UserError, match="warm_up"):
        BrunoRiverClassifier(warm_up=0)
