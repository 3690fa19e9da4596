"""Sets of several modes: found, exact in every update, and as dense as they are."""

import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import make_blobs
from sklearn.mixture import GaussianMixture

from bruno import BrunoDensity, BrunoOutlierDetector, UserError
from bruno.estimators.encoding import encoded


def blobs(number=600, seed=1):
    x, _ = make_blobs(number, 3, centers=3, cluster_std=[1.0, 0.5, 2.0], random_state=seed)
    return x


def two_modes(number, rng):
    x = rng.normal(size=(number, 4))
    x[::2, 0] += 12
    return x


@pytest.fixture(scope="module")
def fitted():
    return BrunoDensity(random_state=0).fit(blobs()[:400])


def test_modes_are_found_and_are_as_dense_as_a_mixture_of_as_many(fitted):
    learned, tested = blobs()[:400], blobs()[400:]
    assert fitted.n_modes_ == 3
    mixture = GaussianMixture(3, n_init=3, random_state=0).fit(learned)
    assert fitted.score_samples(tested).mean() > mixture.score(tested) - 0.1
    alone = BrunoDensity(modes=1, random_state=0).fit(learned)
    assert alone.n_modes_ == 1
    assert fitted.score_samples(tested).mean() > alone.score_samples(tested).mean() + 0.5


def test_one_cloud_stays_one():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)) @ rng.normal(size=(4, 4))
    assert BrunoDensity().fit(x).n_modes_ == 1
    assert BrunoDensity().fit(two_modes(40, rng)).n_modes_ == 1  # too few to tell
    assert BrunoDensity(modes=2).fit(two_modes(40, rng)).n_modes_ == 2


def test_the_density_integrates_to_one():
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.normal(size=150), 0.3 * rng.normal(size=150) + 8])[:, None]
    density = BrunoDensity(random_state=0).fit(x)
    assert density.n_modes_ == 2
    grid = np.linspace(-200, 200, 400_001)[:, None]
    total = np.exp(density.score_samples(grid)).sum() * (grid[1, 0] - grid[0, 0])
    assert total == pytest.approx(1, abs=1e-3)


def test_updates_are_exact_in_any_order(fitted):
    more, asked = blobs(60, seed=1)[:50] + 0.1, blobs()[400:450]
    before = fitted.score_samples(asked)
    grown, one_by_one = copy.deepcopy(fitted), copy.deepcopy(fitted)
    grown.partial_fit(more)
    for row in more[::-1]:
        one_by_one.partial_fit(row[None])
    after = grown.score_samples(asked)
    assert np.abs(after - before).max() > 0.01
    np.testing.assert_allclose(one_by_one.score_samples(asked), after, rtol=0, atol=1e-9)
    np.testing.assert_allclose(grown.forget(more).score_samples(asked), before, rtol=0, atol=1e-9)
    assert grown.evidence_.count == 400
    np.testing.assert_allclose(grown.evidence_.mean, fitted.evidence_.mean, atol=1e-9)


def test_the_order_of_rows_has_no_influence(fitted):
    x = np.random.default_rng(0).permutation(blobs()[:400])
    again = BrunoDensity(random_state=0).fit(x)
    asked = blobs()[400:]
    np.testing.assert_allclose(
        again.score_samples(asked), fitted.score_samples(asked), rtol=0, atol=1e-7
    )


def test_weights_are_repeated_rows():
    x = blobs(200)
    weight = np.where(np.arange(200) % 2, 1.0, 2.0)
    weighted = BrunoDensity(random_state=0).fit(x, sample_weight=weight)
    repeated = BrunoDensity(random_state=0).fit(np.repeat(x, weight.astype(int), 0))
    assert weighted.n_modes_ == repeated.n_modes_ > 1
    asked = blobs()[400:]
    np.testing.assert_allclose(
        weighted.score_samples(asked), repeated.score_samples(asked), rtol=0, atol=1e-6
    )


def test_samples_come_from_every_mode(fitted):
    x, drawn = blobs()[:400], fitted.sample(4000, random_state=0)
    np.testing.assert_allclose(drawn.mean(0), x.mean(0), atol=0.5)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(x.T), rtol=0.2, atol=1)
    shares = np.bincount(fitted._modes.parts_of(encoded(fitted.model_, drawn)[0]))
    assert shares.min() > 1000


def test_it_is_saved_and_loaded(fitted, tmp_path):
    fitted.save(tmp_path / "saved")
    loaded, asked = BrunoDensity.load(tmp_path / "saved"), blobs()[400:]
    assert loaded.n_modes_ == 3
    np.testing.assert_array_equal(loaded.score_samples(asked), fitted.score_samples(asked))
    np.testing.assert_array_equal(loaded.evidence_.mean, fitted.evidence_.mean)
    loaded.partial_fit(asked).forget(asked)
    np.testing.assert_allclose(
        loaded.score_samples(asked), fitted.score_samples(asked), rtol=0, atol=1e-9
    )


def test_what_lies_between_two_modes_is_an_outlier():
    rng = np.random.default_rng(0)
    between = np.zeros((20, 4))
    between[:, 0] = 6
    detector = BrunoOutlierDetector(contamination="auto", random_state=0).fit(two_modes(400, rng))
    assert detector.n_modes_ == 2
    assert (detector.predict(between) == -1).all()
    normal = two_modes(4000, rng)
    assert (detector.predict(normal) == -1).mean() == pytest.approx(0.05, abs=0.025)
    assert detector.predict_proba(between)[:, 1].min() > detector.predict_proba(normal)[:, 1].mean()
    alone = BrunoOutlierDetector(contamination="auto", modes=1, random_state=0)
    assert (alone.fit(two_modes(400, rng)).predict(between) == 1).all()


def test_held_out_densities_are_those_of_a_set_without_the_element():
    detector = BrunoOutlierDetector(contamination="auto", random_state=0).fit(blobs()[:100])
    z, _ = encoded(detector.model_, blobs()[:100])
    held_out = detector._held_out(z, None, None)
    for row in (0, 50, 99):
        rest = detector._modes.evidence_of(z[torch.arange(100) != row])
        expected = detector._modes.log_prob(z[[row]], rest)
        assert float(held_out[row]) == pytest.approx(float(expected), abs=1e-9)


@pytest.mark.parametrize("modes", [0, 9, 1.5, "many", None])
def test_numbers_of_modes_that_cannot_be_are_refused(modes):
    with pytest.raises(UserError, match="modes: expected 'auto' or a whole number from 1 to 8"):
        BrunoDensity(modes=modes).fit(blobs())


def test_modes_where_there_can_be_none_are_refused():
    with pytest.raises(UserError, match="modes: expected 1 or 'auto' for a given model, another"):
        BrunoDensity(modes=2, flow="diagonal").fit(blobs())
    assert BrunoDensity(flow="diagonal").fit(blobs()).n_modes_ == 1
