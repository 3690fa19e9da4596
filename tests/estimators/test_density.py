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


@pytest.mark.parametrize("flow", ["affine", "linear"])
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
    detector = BrunoOutlierDetector(scale="common", contamination=0.1).fit(normal[:90])
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
