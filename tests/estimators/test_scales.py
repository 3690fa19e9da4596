import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.decomposition import PCA
from sklearn.metrics import log_loss

from bruno import BrunoClassifier, BrunoDensity, BrunoOutlierDetector
from bruno.data import load_dataset
from bruno.estimators.scales import has_one_unit, standard_scale

DIGITS, _ = load_digits(return_X_y=True)
CANCER = load_breast_cancer()
CHOSEN = [
    list(CANCER.feature_names).index(name)
    for name in ("mean texture", "worst texture", "worst concave points")
]


@pytest.mark.parametrize(
    ("units", "scale"),
    [
        ((1, 1, 1), "global"),
        ((1, 5, 2), "global"),
        ((1, 100, 1), "per_feature"),
        ((1, 0.01, 1), "per_feature"),
        ((1, 0.05, 5, 2, 0.03), "per_feature"),
    ],
)
def test_units_are_taken_for_common_unless_a_column_varies_much_more_or_less(units, scale):
    x = np.random.default_rng(0).normal(size=(60, len(units))) * units
    y = np.arange(60) % 3
    chosen = BrunoClassifier(temperature=1.0).fit(x, y)
    asked = BrunoClassifier(scale=scale, temperature=1.0).fit(x, y)
    assert chosen.scale_ == scale
    np.testing.assert_array_equal(chosen.predict_log_proba(x), asked.predict_log_proba(x))
    assert BrunoClassifier(chosen.model_).fit(x, y).scale_ is None


def test_constant_columns_say_nothing_of_units():
    x = np.random.default_rng(0).normal(size=(60, 5)) * [1, 0, 0, 0, 2] + 1e3
    assert BrunoClassifier(temperature=1.0).fit(x, np.arange(60) % 3).scale_ == "global"


@pytest.mark.parametrize("seed", range(3))
def test_a_column_far_below_the_usual_unit_is_not_lost(seed):
    rng = np.random.default_rng(seed)
    x, y = CANCER.data[:, CHOSEN], CANCER.target
    learn = np.concatenate([rng.permutation(np.flatnonzero(y == k))[:20] for k in (0, 1)])
    test = np.setdiff1d(np.arange(len(y)), learn)
    classifier = BrunoClassifier(random_state=0).fit(x[learn], y[learn])
    assert classifier.scale_ == "per_feature"
    assert classifier.score(x[test], y[test]) > 0.88
    assert log_loss(y[test], classifier.predict_proba(x[test])) < 0.35
    for other in (BrunoDensity(), BrunoOutlierDetector(), BrunoDensity(flow="dense", steps=1)):
        assert other.fit(x[learn]).scale_ == "per_feature"


def test_a_detector_sees_outliers_in_a_column_of_small_numbers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 3)) * [4.0, 6.0, 0.06] + [19.0, 25.0, 0.1]
    detector = BrunoOutlierDetector(contamination=0.01).fit(x[:100])
    outliers = x[100:] + np.array([0, 0, 20 * 0.06])
    assert (detector.predict(outliers) == -1).mean() > 0.95


def rows_of(x, number, seed):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(x[rng.permutation(len(x))[:number]])


@pytest.mark.parametrize("number", [2, 3, 6, 10, 30, 100, 1000, 1797])
def test_pixels_have_one_unit_however_seldom_some_are_inked(number):
    glyphs = load_dataset("glyphs", "test").images.numpy()[:1797].reshape(-1, 784).astype(float)
    for seed in range(5):
        assert has_one_unit(rows_of(DIGITS, number, seed))
        assert has_one_unit(rows_of((DIGITS > 7).astype(float), number, seed))
        assert has_one_unit(rows_of(glyphs, number, seed))


@pytest.mark.parametrize("number", [10, 30, 1797])
def test_principal_components_and_units_of_networks_have_one_unit(number):
    rng = np.random.default_rng(0)
    components = PCA().fit_transform(DIGITS)  # the last ones are 0, up to rounding
    hidden = np.maximum(DIGITS @ rng.normal(size=(64, 256)) / 100 + 0.3 * rng.normal(size=256), 0)
    embeddings = hidden @ rng.normal(size=(256, 128))
    for seed in range(5):
        for x in (components, hidden, embeddings):
            assert has_one_unit(rows_of(x, number, seed))


def test_measurements_with_units_of_their_own_are_told_from_few_rows():
    x = load_diabetes(scaled=False).data  # no column varies ten times as much as the median one
    for seed in range(5):
        assert not has_one_unit(rows_of(x, 40, seed))
        assert not has_one_unit(rows_of(CANCER.data[:, CHOSEN], 20, seed))


@pytest.mark.parametrize("factor", [1e-300, 1e-9, 1e9, 1e300])
def test_the_unit_of_all_does_not_matter_to_whether_there_is_one(factor):
    for x in (DIGITS[:100], CANCER.data[:40, CHOSEN], PCA().fit_transform(DIGITS)[:100]):
        x = torch.from_numpy(x)
        assert has_one_unit(x * factor) == has_one_unit(x)


def test_deviations_are_told_from_sizes_too_where_elements_are_few():
    # Of the same size; the second varies nine times as much, as far as two elements say.
    x = torch.tensor([[99.0, 91.0, 5.0], [101.0, 109.0, 5.0]], dtype=torch.float64)
    _, (first, second, constant) = standard_scale(x, global_scale=False)
    torch.testing.assert_close(second / first, torch.tensor(3.0).double(), rtol=1e-2, atol=0)
    assert constant in (first, second)
    _, scaled = standard_scale(x * torch.tensor([1.0, 1e-3, 1.0]), global_scale=False)
    torch.testing.assert_close(scaled[1], second * 1e-3)
    far = torch.cat([x, torch.tensor([[1e9 - 1], [1e9 + 1]], dtype=torch.float64)], 1)
    _, beside_it = standard_scale(far, global_scale=False)
    torch.testing.assert_close(beside_it[:2], torch.stack([first, second]))
    many = x.repeat(500, 1)
    _, deviation = standard_scale(many, global_scale=False)
    torch.testing.assert_close(deviation[:2], many.std(0)[:2], rtol=3e-3, atol=0)
