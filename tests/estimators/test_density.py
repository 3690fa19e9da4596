import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

from bruno import BrunoDensity, BrunoOutlierDetector, UserError

RNG = np.random.default_rng(0)
MIXING = RNG.normal(size=(3, 3))
X = RNG.normal(size=(2000, 3)) @ MIXING + [10.0, 0.0, -5.0]


def test_density_of_many_elements_is_the_one_they_come_from():
    truth = stats.multivariate_normal([10.0, 0.0, -5.0], MIXING.T @ MIXING)
    density = BrunoDensity(process="gaussian").fit(X)
    new = RNG.normal(size=(200, 3)) @ MIXING + [10.0, 0.0, -5.0]
    np.testing.assert_allclose(density.score_samples(new), truth.logpdf(new), atol=0.5)
    assert density.score(new) == pytest.approx(density.score_samples(new).sum())


@pytest.mark.parametrize("flow", ["diagonal", "affine"])
def test_density_integrates_to_one(flow):
    density = BrunoDensity(flow=flow).fit(X[:20, :1])
    grid = np.linspace(-200, 220, 200_001)
    mass = np.trapezoid(np.exp(density.score_samples(grid[:, None])), grid)
    assert mass == pytest.approx(1, abs=1e-3)


def test_growing_and_shrinking():
    density = BrunoDensity().fit(X[:100])
    before = density.score_samples(X)
    density.partial_fit(X[100:150]).partial_fit(X[150:151])
    assert int(density.evidence_.count) == 151
    density.forget(X[100:151])
    np.testing.assert_allclose(density.score_samples(X), before, atol=1e-9)
    with pytest.raises(UserError, match="forget"):
        density.forget(X[:101])


def test_samples_follow_the_density():
    density = BrunoDensity(process="gaussian", random_state=3).fit(X)
    drawn = density.sample(5000)
    np.testing.assert_allclose(drawn.mean(0), X.mean(0), atol=0.2)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(X.T), atol=0.5)
    np.testing.assert_array_equal(drawn, density.sample(5000))


def test_outliers():
    digits, labels = load_digits(return_X_y=True)
    normal = digits[labels == 3]
    detector = BrunoOutlierDetector(scale="global", contamination=0.1).fit(normal[:90])
    scores = detector.decision_function(np.concatenate([normal[90:], digits[labels != 3]]))
    truth = np.r_[np.ones(len(normal) - 90), np.zeros((labels != 3).sum())]
    assert roc_auc_score(truth, scores) > 0.95
    assert (detector.predict(normal[:90]) == -1).mean() == pytest.approx(0.1, abs=0.02)
    with pytest.raises(UserError, match="contamination"):
        BrunoOutlierDetector(contamination=0.9).fit(normal)


def test_with_a_given_model_it_counts_what_the_set_adds():
    model = BrunoDensity().fit(X).model_
    detector = BrunoOutlierDetector(model=model).fit(X[:20])
    density = BrunoDensity(model=model).fit(X[:20])
    with torch.no_grad():
        before = model.prior().log_prob(torch.from_numpy(X[50:60])).numpy()
    expected = density.score_samples(X[50:60]) - before
    np.testing.assert_allclose(detector.score_samples(X[50:60]), expected, atol=1e-9)


def test_scores_and_threshold_are_those_of_the_fit(tmp_path):
    model = BrunoDensity().fit(X).model_
    detector = BrunoOutlierDetector(model=model).fit(X[:20])
    expected, offset = detector.decision_function(X), detector.offset_
    detector.set_params(model=None)
    np.testing.assert_array_equal(detector.decision_function(X), expected)
    detector.save(tmp_path / "saved")
    loaded = BrunoOutlierDetector.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.decision_function(X), expected)
    detector.partial_fit(X[20:40]).forget(X[:10])
    assert detector.offset_ == offset


def test_a_fit_that_fails_changes_nothing():
    detector = BrunoOutlierDetector().fit(X[:20])
    expected = detector.decision_function(X)
    for contamination in ("much", 0.9):
        with pytest.raises(UserError, match=r"contamination: expected a number in \(0, 0.5\]"):
            detector.set_params(contamination=contamination).fit(X[:30, :2])
    with pytest.raises(ValueError, match="NaN"):
        detector.set_params(contamination=0.1).fit(X[:30, :2] * np.nan)
    assert detector.n_features_in_ == 3
    np.testing.assert_array_equal(detector.decision_function(X), expected)
    with pytest.raises(UserError, match="X: expected elements less than"):
        detector.partial_fit(X[:1] * 1e300)


def test_ranking_needs_no_more_than_a_model():
    density = BrunoDensity().fit(X)
    new = RNG.normal(size=(20, 3)) * 0.1 + [20.0, 5.0, 5.0]
    rows, scores = density.rank(new[:3], np.concatenate([X, new[3:]]), top_k=17)
    assert (rows >= len(X)).all()
    assert (np.diff(scores) <= 0).all()


def test_a_far_element_is_forgotten_exactly_or_not_at_all():
    density = BrunoDensity(process="student_t").fit(X[:50]).partial_fit(X[:1] + 1e7)
    with pytest.raises(UserError, match="forget: expected elements nearer to the others"):
        density.forget(X[:1] + 1e7)
    assert int(density.evidence_.count) == 51


@pytest.mark.parametrize("kind", [BrunoDensity, BrunoOutlierDetector])
def test_saved_and_loaded(kind, tmp_path):
    estimator = kind().fit(X[:50]).partial_fit(X[50:60])
    estimator.save(tmp_path / "saved")
    loaded = kind.load(tmp_path / "saved")
    np.testing.assert_array_equal(loaded.score_samples(X), estimator.score_samples(X))
    if kind is BrunoOutlierDetector:
        np.testing.assert_array_equal(loaded.predict(X), estimator.predict(X))


def test_no_gradient_is_kept():
    density = BrunoDensity().fit(X[:50])
    assert not any(p.requires_grad for p in density.model_.parameters())
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("dim", [3, 20])
def test_false_alarms_of_new_elements_are_as_stated(dim):
    rng = np.random.default_rng(5)
    mixing = rng.normal(size=(dim, dim))
    x, new = (rng.standard_t(6, size=(number, dim)) @ mixing for number in (400, 4000))
    detector = BrunoOutlierDetector(contamination="auto").fit(x)
    assert (detector.predict(new) == -1).mean() == pytest.approx(0.05, abs=0.025)
    flagged = BrunoOutlierDetector(contamination=0.05).fit(x).predict(new) == -1
    assert flagged.mean() > (detector.predict(new) == -1).mean()


def test_probabilities_of_outliers_are_those_of_bayes_rule():
    detector = BrunoOutlierDetector(contamination=0.2).fit(X[:60])
    found = detector.predict_proba(np.concatenate([X[60:70], X[60:70] + 50]))
    np.testing.assert_allclose(found.sum(1), 1)
    assert found[:10, 1].max() < 0.5
    assert found[10:, 1].min() > 0.99
    model = detector.model_
    with torch.no_grad():
        x = torch.from_numpy(X[60:61])
        ratio = model.condition(torch.from_numpy(X[:60])).log_prob(x[0]) - model.prior().log_prob(
            x[0]
        )
    expected = 0.2 / (0.2 + 0.8 * np.exp(float(ratio)))
    assert found[0, 1] == pytest.approx(expected, rel=1e-9)
