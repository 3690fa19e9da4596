import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bruno import BrunoClassifier
from bruno.estimators.two_covariance import evidence_of_classes, fit_two_covariance
from tests.estimators.iris import X, Y, fitted


@pytest.mark.parametrize(
    ("units", "scale"), [((1, 1, 1), "common"), ((1, 5, 2), "common"), ((1, 100, 1), "columns")]
)
def test_units_are_taken_for_common_unless_a_column_varies_much_more(units, scale):
    x = np.random.default_rng(0).normal(size=(60, 3)) * units
    y = np.arange(60) % 3
    chosen = BrunoClassifier(temperature=1.0).fit(x, y)
    asked = BrunoClassifier(scale=scale, temperature=1.0).fit(x, y)
    assert chosen.scale_ == scale
    np.testing.assert_array_equal(chosen.predict_log_proba(x), asked.predict_log_proba(x))
    assert BrunoClassifier(chosen.model_).fit(x, y).scale_ is None


def test_constant_columns_say_nothing_of_units():
    x = np.random.default_rng(0).normal(size=(60, 5)) * [1, 0, 0, 0, 2] + 1e3
    assert BrunoClassifier(temperature=1.0).fit(x, np.arange(60) % 3).scale_ == "common"


@pytest.mark.parametrize("magnitude", [1e-300, 1e150, 1e300])
def test_magnitudes_do_not_matter(magnitude):
    expected = fitted().predict_proba(X)
    scaled = BrunoClassifier(random_state=0).fit(X[::2] * magnitude, Y[::2])
    np.testing.assert_allclose(scaled.predict_proba(X * magnitude), expected, atol=1e-6)


def test_a_value_far_from_all_others_does_not_stand_in_the_way():
    far = X.copy()
    far[0, 0] = 1e300
    classifier = BrunoClassifier(random_state=0).fit(far, Y)
    assert np.isfinite(classifier.predict_proba(X)).all()


@torch.no_grad()
def test_where_elements_hardly_scatter_the_likelihood_is_still_maximised():
    x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    rows = torch.cat([torch.nonzero(y == digit).flatten()[:60] for digit in range(10)])
    found = {}
    for process in ("gaussian", "student_t"):
        model = fit_two_covariance(x[rows], y[rows], process, full=True, common_scale=True)
        evidence = evidence_of_classes(model.encode(x[rows]), y[rows])
        found[process] = float(model.process.log_prob_of(evidence).sum())
        assert model.process.variance.max() < 20
    # Many pixels of a digit are always black, which a Gaussian for all digits cannot know.
    assert found["student_t"] - found["gaussian"] > 12_000
