"""Elements that count by weights, and missing entries, which count nothing."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_wine

from bruno import BrunoClassifier, BrunoDensity, BrunoOutlierDetector, Evidence, UserError
from bruno.estimators.weights import weighted_quantile

X, Y = load_wine(return_X_y=True)
X, Y = X[:, :6], Y
RNG = np.random.default_rng(0)
WEIGHT = RNG.integers(0, 4, len(X))
FRACTIONS = RNG.uniform(0.1, 3, len(X))
GAPS = np.where(RNG.random(X.shape) < 0.2, np.nan, X)


def repeated(*arrays):
    return [array.repeat(WEIGHT, 0) for array in arrays]


@pytest.mark.parametrize("flow", ["affine", "diagonal"])
@pytest.mark.parametrize("rows", [slice(None), slice(0, None, 12)])
def test_a_weight_counts_like_repetitions_in_all_that_is_fitted(flow, rows):
    x, y, weight = X[rows], Y[rows], WEIGHT[rows]
    weighted = BrunoClassifier(flow=flow, random_state=0, class_prior="empirical")
    weighted.fit(x, y, sample_weight=weight)
    again = BrunoClassifier(flow=flow, random_state=0, class_prior="empirical")
    again.fit(x.repeat(weight, 0), y.repeat(weight))
    for name in ("process_", "marginal_map_", "prior_strength_", "scale_", "label_noise_"):
        assert getattr(weighted, name) == getattr(again, name)
    assert weighted.temperature_ == pytest.approx(again.temperature_, rel=1e-9)
    np.testing.assert_allclose(weighted.predict_proba(X), again.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize("contamination", [0.1, "auto"])
def test_a_weight_counts_like_repetitions_in_the_detector(contamination):
    weighted = BrunoOutlierDetector(contamination=contamination).fit(X, sample_weight=WEIGHT)
    again = BrunoOutlierDetector(contamination=contamination).fit(*repeated(X))
    np.testing.assert_allclose(weighted.decision_function(X), again.decision_function(X), atol=1e-9)


@pytest.mark.parametrize("gaps", [False, True])
def test_forgetting_with_the_same_weight_undoes_the_update(gaps):
    table = GAPS if gaps else X
    classifier = BrunoClassifier(flow="diagonal", random_state=0).fit(table[::2], Y[::2])
    before = classifier.predict_log_proba(table)
    some, weights = slice(1, None, 2), {"sample_weight": FRACTIONS[1::2]}
    classifier.partial_fit(table[some], Y[some], **weights)
    after = classifier.predict_log_proba(table)
    assert np.abs(after - before).max() > 0.1
    classifier.forget(table[some], Y[some], **weights)
    np.testing.assert_allclose(classifier.predict_log_proba(table), before, rtol=0, atol=1e-9)
    for row in np.random.default_rng(1).permutation(np.arange(1, len(X), 2)):
        one = slice(row, row + 1)
        classifier.partial_fit(table[one], Y[one], sample_weight=FRACTIONS[one])
    np.testing.assert_allclose(classifier.predict_log_proba(table), after, rtol=0, atol=1e-9)


def test_a_class_is_gone_when_all_its_weight_is():
    classifier = BrunoClassifier(random_state=0).fit(X[Y < 2], Y[Y < 2])
    third, weight = X[Y == 2], FRACTIONS[Y == 2]
    for row, each in zip(third, weight, strict=True):
        classifier.partial_fit(row[None], [2], sample_weight=[each])
    assert classifier.classes_.tolist() == [0, 1, 2]
    classifier.forget(third, np.full(len(third), 2), sample_weight=weight)
    assert classifier.classes_.tolist() == [0, 1]
    with pytest.raises(UserError, match="forget: expected at most as many"):
        classifier.forget(X[:1], Y[:1], sample_weight=[1000])


def test_weights_stay_in_the_window_and_are_saved(tmp_path):
    start = {"flow": "diagonal", "temperature": 1.0, "random_state": 0}
    windowed = BrunoClassifier(window=40, **start)
    windowed.fit(GAPS[::3], Y[::3], sample_weight=FRACTIONS[::3])
    rows = np.arange(len(X))[::3][-40:]
    kept = BrunoClassifier(windowed.model_, temperature=1.0)
    kept.fit(GAPS[rows], Y[rows], sample_weight=FRACTIONS[rows])
    np.testing.assert_allclose(windowed.predict_proba(X), kept.predict_proba(X), atol=1e-9)
    windowed.save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved")
    last, weights = rows[-2:], {"sample_weight": FRACTIONS[rows[-2:]]}
    with pytest.raises(UserError, match="that is not among them"):
        loaded.forget(GAPS[last], Y[last])
    forgotten = loaded.forget(GAPS[last], Y[last], **weights).predict_proba(X)
    np.testing.assert_allclose(
        forgotten, kept.forget(GAPS[last], Y[last], **weights).predict_proba(X), atol=1e-9
    )


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
@pytest.mark.parametrize("marginal_map", [None, "yeo_johnson"])
def test_a_missing_entry_is_integrated_over(process, marginal_map):
    density = BrunoDensity(flow="diagonal", process=process, marginal_map=marginal_map)
    density.fit(GAPS[:, :2]).partial_fit([[13.0, np.nan]])
    grid = np.sinh(np.linspace(-8, 8, 40_001))
    rows = np.stack([np.full(len(grid), 13.0), grid], 1)
    mass = np.trapezoid(np.exp(density.score_samples(rows)), grid)
    assert density.score_samples([[13.0, np.nan]])[0] == pytest.approx(np.log(mass), abs=1e-4)
    assert density.score_samples([[np.nan, np.nan]])[0] == 0


def test_missing_entries_are_as_if_their_columns_were_tables_of_their_own():
    # Columns are independent: the joint of two is the product, each fitted to what it has.
    both = BrunoDensity(flow="diagonal", process="gaussian", scale="per_feature", marginal_map=None)
    table = GAPS[:, :2]
    both.fit(table)
    alone = [
        BrunoDensity(flow="diagonal", process="gaussian", scale="per_feature", marginal_map=None)
        .fit(column[~np.isnan(column)][:, None])
        .score_samples(X[:, k : k + 1])
        for k, column in enumerate(table.T)
    ]
    # Scales are shrunk towards those of the other columns: near, not equal.
    np.testing.assert_allclose(both.score_samples(X[:, :2]), sum(alone), atol=0.05)


def test_rows_with_gaps_are_classified_and_ranked():
    classifier = BrunoClassifier(flow="diagonal", random_state=0).fit(GAPS[::2], Y[::2])
    assert classifier.score(GAPS[1::2], Y[1::2]) > 0.7
    batch = classifier.predict_log_proba(GAPS)
    rows = np.concatenate([classifier.predict_log_proba(row[None]) for row in GAPS])
    np.testing.assert_allclose(batch, rows, rtol=0, atol=1e-9)
    found, _ = classifier.rank(GAPS[:3], GAPS, top_k=20)
    assert (Y[found] == 0).mean() > 0.6
    shuffled = np.random.default_rng(3).permutation(len(X))
    other = BrunoClassifier(flow="diagonal", random_state=0).fit(
        GAPS[shuffled][shuffled % 2 == 0], Y[shuffled][shuffled % 2 == 0]
    )
    np.testing.assert_allclose(other.predict_log_proba(GAPS), batch, rtol=0, atol=1e-9)
    with_prior = BrunoClassifier(flow="diagonal", unknown_prior=0.1, random_state=0)
    assert np.isfinite(with_prior.fit(GAPS, Y).predict_proba(GAPS)).all()


def test_missing_entries_are_refused_where_columns_are_mixed():
    message = "X: expected no missing values .*flow='diagonal'"
    with pytest.raises(UserError, match=message):
        BrunoClassifier().fit(GAPS, Y)
    with pytest.raises(UserError, match=message):
        BrunoDensity().fit(X).score_samples(GAPS)


@pytest.mark.parametrize(
    "weight", [[1.0], -np.ones(len(X)), np.full(len(X), np.nan), "a", np.ones((len(X), 1))]
)
def test_bad_weights_are_named(weight):
    with pytest.raises(UserError, match="sample_weight: expected a number of at least 0 for each"):
        BrunoClassifier().fit(X, Y, sample_weight=weight)


def test_quantiles_of_weighted_values_are_those_of_repeated_ones():
    values = np.random.default_rng(4).normal(size=30)
    weight = np.arange(30) % 4 + 1
    for share in (0.0, 0.05, 0.33, 0.5, 1.0):
        expected = np.quantile(values.repeat(weight), share)
        assert weighted_quantile(values, share, weight.astype(float)) == pytest.approx(expected)


def test_evidence_of_small_weights_adds_and_subtracts():
    z = torch.from_numpy(X[:8])
    weight = torch.linspace(0.01, 0.2, 8, dtype=torch.float64)
    one = torch.zeros(8, dtype=torch.int64)
    whole = Evidence.by_class(z, one, weight)[0]
    halves = [Evidence.by_class(z[r], one[r], weight[r])[0] for r in (slice(3), slice(3, 8))]
    merged = halves[0] + halves[1]
    for name in ("count", "mean", "scatter"):
        torch.testing.assert_close(getattr(merged, name), getattr(whole, name))
        left = getattr(whole - halves[1], name)
        torch.testing.assert_close(left, getattr(halves[0], name), rtol=1e-9, atol=1e-9)
    assert float((whole - halves[1] - halves[0]).count) == 0
