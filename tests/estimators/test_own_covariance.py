"""Classes with covariances of their own: exact densities, exact updates, and when they are used."""

import copy
import math
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_t
from sklearn.datasets import load_iris

from bruno import BrunoClassifier, Evidence, UserError
from bruno.estimators.leave_one_out import FittedCovariance, leave_one_out
from bruno.estimators.own_covariance import MOST_DIMENSIONS, OwnCovariance
from bruno.processes import ExchangeableGaussian, ExchangeableStudentT
from bruno.seeding import generator_for

KINDS = {"gaussian": ExchangeableGaussian, "student_t": ExchangeableStudentT}
RNG = np.random.default_rng(0)


def process_of(kind, dim, excess=4.0, mean_strength=0.2):
    shared = KINDS[kind].from_parameters(
        torch.linspace(1.5, 3, dim).double(), torch.linspace(0.2, 1, dim).double(), 0.3
    )
    return OwnCovariance(shared, excess, mean_strength)


def draws(number, dim, seed=0):
    return torch.randn(number, dim, generator=generator_for(seed), dtype=torch.float64)


def unlike_classes(number=150, dim=4, seed=0):
    """Classes that differ in covariance as well as in mean."""
    rng = np.random.default_rng(seed)
    y = np.arange(number) % 3
    maps = rng.normal(size=(3, dim, dim)) * np.array([0.3, 1.0, 2.0])[:, None, None]
    x = np.einsum("nd,nde->ne", rng.normal(size=(number, dim)), maps[y])
    return x + 0.5 * rng.normal(size=(3, dim))[y], y


@pytest.fixture(scope="module")
def fitted():
    x, y = unlike_classes()
    return BrunoClassifier(covariance="own", random_state=0).fit(x, y)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_the_predictive_density_is_a_ratio_of_joint_densities_in_any_order(kind):
    process, z = process_of(kind, 3), process_of(kind, 3).statistics(draws(4, 3))
    totals = []
    for order in permutations(range(4)):
        terms = [
            process.log_prob_given(z[[row]], Evidence.of(z[list(order[:place])]).expand((1,)))
            for place, row in enumerate(order)
        ]
        totals.append(float(sum(terms)))
    np.testing.assert_allclose(totals, totals[0], rtol=0, atol=1e-10)


@torch.no_grad()
def test_a_class_that_is_certainly_its_own_has_the_textbook_density():
    """Murphy, Conjugate Bayesian analysis of the Gaussian distribution, 2007, equation 258."""
    dim, process = 2, process_of("gaussian", 2)
    z = draws(400, dim) @ torch.tensor([[3.0, 2.9], [0.0, 0.1]]).double()
    evidence = Evidence.of(process.statistics(z)).expand((1,))
    assert float(process.share_of_own(evidence)) > 1 - 1e-12
    n, mean, prior = len(z), z.mean(0).numpy(), process.shared.loc.numpy()
    strength, degrees = process.mean_strength + n, process.excess + dim + 1 + n
    scatter = np.diag(process.excess * process.shared.noise.numpy()) + n * np.cov(z.T, ddof=0)
    scatter += process.mean_strength * n / strength * np.outer(mean - prior, mean - prior)
    expected = multivariate_t(
        (process.mean_strength * prior + n * mean) / strength,
        scatter * (strength + 1) / (strength * (degrees - dim + 1)),
        df=degrees - dim + 1,
    ).logpdf(np.array([[0.5, -1.0], [3.0, 3.0]]))
    found = process.log_prob_given(
        process.statistics(torch.tensor([[0.5, -1.0], [3.0, 3.0]]).double()), evidence
    )
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_densities_integrate_to_one(kind):
    process = process_of(kind, 1)
    evidence = Evidence.of(process.statistics(torch.tensor([[0.1], [2.0], [-1.0]]).double()))
    grid = torch.linspace(-400, 400, 400_001, dtype=torch.float64).unsqueeze(1)
    log_prob = process.log_prob_given(process.statistics(grid), evidence.expand((1,)))
    assert float(log_prob.exp().sum() * (grid[1] - grid[0])) == pytest.approx(1, abs=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fitted", [None, FittedCovariance(20.0, full=True)])
def test_an_element_is_held_out_as_if_its_class_had_never_had_it(kind, fitted):
    process = process_of(kind, 3)
    z, classes = draws(12, 3), torch.tensor([0, 1, 1] + [2] * 9)
    weight = torch.ones(12).double()
    weight[7] = 2.5
    found = leave_one_out(process, z, classes, fitted, weight=weight)
    of_shared = leave_one_out(process.shared, z, classes, fitted, weight=weight)
    for row in range(12):
        less = weight.clone()
        less[row] -= 1
        others = Evidence.by_class(process.statistics(z), classes, less)
        own, exact = process._own(others), process.log_prob_given(z[[row]], others)[0]
        if fitted is None:
            torch.testing.assert_close(found[row], exact, rtol=0, atol=1e-9)
        else:  # the shared covariance changes too, and only that
            other = torch.logaddexp(own.log_prob(z[[row]])[0], of_shared[row])
            assert (found[row] <= other).all()


@torch.no_grad()
def test_samples_have_the_moments_of_the_class():
    process = process_of("student_t", 2)
    z = draws(500, 2) @ torch.tensor([[2.0, 1.0], [0.0, 0.3]]).double() + 4
    evidence = Evidence.of(process.statistics(z))
    drawn = process.sample(evidence, (20_000,), generator_for(0))
    np.testing.assert_allclose(drawn.mean(0), z.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(z.T), rtol=0.1, atol=0.05)


def test_few_examples_are_scored_by_the_shared_covariance_and_many_by_their_own(fitted):
    x, y = unlike_classes(3000, seed=0)
    few = BrunoClassifier(covariance="own", random_state=0).fit(x[:1500], y[:1500])
    assert few.own_covariance_.min() > 0.999
    new = few.partial_fit(x[y == 1][-1:], [9])
    assert 0.1 < new.own_covariance_[3] < 0.9
    assert fitted.covariance_ == "own"


def test_covariances_are_chosen_where_they_tell_classes_apart():
    x, y = unlike_classes(600)
    learned, tested = slice(0, 300), slice(300, None)
    chosen = BrunoClassifier(random_state=0).fit(x[learned], y[learned])
    shared = BrunoClassifier(covariance="shared", random_state=0).fit(x[learned], y[learned])
    assert (chosen.covariance_, shared.covariance_) == ("own", "shared")
    assert chosen.score(x[tested], y[tested]) > shared.score(x[tested], y[tested]) + 0.05
    equal = RNG.normal(size=(300, 4)) + 2 * RNG.normal(size=(3, 4))[y[learned]]
    assert BrunoClassifier(random_state=0).fit(equal, y[learned]).covariance_ == "shared"
    assert (shared.own_covariance_ == 0).all()


def test_updates_are_exact(fitted):
    x, y = unlike_classes(60, seed=1)
    grown = copy.deepcopy(fitted)
    before = fitted.predict_log_proba(x)
    grown.partial_fit(x, y)
    assert np.abs(grown.predict_log_proba(x) - before).max() > 0.01
    one_by_one = copy.deepcopy(fitted)
    for row, label in zip(x[::-1], y[::-1], strict=True):
        one_by_one.partial_fit(row[None], np.array([label]))
    expected = grown.predict_log_proba(x)
    np.testing.assert_allclose(one_by_one.predict_log_proba(x), expected, atol=1e-9)
    rows = np.concatenate([one_by_one.predict_log_proba(row[None]) for row in x])
    np.testing.assert_allclose(rows, expected, atol=1e-9)
    grown.forget(x, y)
    np.testing.assert_allclose(grown.predict_log_proba(x), before, rtol=0, atol=1e-9)
    assert grown.evidence_.dim == 4


def test_weights_are_repeated_rows():
    x, y = unlike_classes(90)
    weight = np.where(np.arange(90) % 2, 1.0, 2.0)
    twice = np.repeat(np.arange(90), weight.astype(int))
    weighted = BrunoClassifier(covariance="own", random_state=0).fit(x, y, weight)
    repeated = BrunoClassifier(covariance="own", random_state=0).fit(x[twice], y[twice])
    np.testing.assert_allclose(
        weighted.predict_log_proba(x), repeated.predict_log_proba(x), atol=1e-8
    )


def test_it_is_saved_with_the_estimator(fitted, tmp_path):
    x, _ = unlike_classes(20, seed=2)
    fitted.save(tmp_path / "saved")
    loaded = BrunoClassifier.load(tmp_path / "saved")
    assert loaded.covariance_ == "own"
    for method in ("predict_log_proba", "score_samples"):
        expected = getattr(fitted, method)(x)
        np.testing.assert_array_equal(getattr(loaded, method)(x), expected)
    assert fitted.sample(0, 3, random_state=1).shape == (3, 4)


def test_streams_and_rejection_go_together_with_it():
    x, y = unlike_classes(120)
    window = BrunoClassifier(covariance="own", window=60, random_state=0).fit(x, y)
    alone = BrunoClassifier(covariance="own", random_state=0).fit(x, y)
    alone.forget(x[:60], y[:60])
    np.testing.assert_allclose(window.predict_log_proba(x), alone.predict_log_proba(x), atol=1e-8)
    fading = BrunoClassifier(covariance="own", half_life=50.0, random_state=0).fit(x, y)
    assert np.isfinite(fading.partial_fit(x[:1], y[:1]).predict_log_proba(x)).all()
    strangers = BrunoClassifier(covariance="own", unknown_prior=0.2, random_state=0).fit(x, y)
    assert strangers.predict_proba(x + 100)[:, -1].mean() > 0.9


def test_collinear_columns_carry_no_evidence_for_the_largest_class():
    x, y = unlike_classes(300)
    keep = (y > 0) | (np.arange(300) % 5 == 0)  # unequal classes
    x, y = x[keep], y[keep]
    twice = np.concatenate([x, x.sum(1, keepdims=True)], 1)
    parameters = {"covariance": "own", "process": "student_t", "temperature": 1.0}
    alone = BrunoClassifier(**parameters).fit(x, y)
    redundant = BrunoClassifier(**parameters).fit(twice, y)
    assert redundant._own is not None
    assert not redundant._own.all_vary
    assert redundant.score(twice, y) > alone.score(x, y) - 0.03
    assert redundant.sample(0, 5, random_state=0).shape == (5, 5)
    np.testing.assert_allclose(
        np.concatenate([redundant.predict_log_proba(row[None]) for row in twice[:5]]),
        redundant.predict_log_proba(twice[:5]),
        atol=1e-9,
    )


@pytest.mark.parametrize("dim", [MOST_DIMENSIONS + 1, 4])
def test_what_cannot_be_is_refused(dim):
    x, y = RNG.normal(size=(200, dim)), np.arange(200) % 2
    parameters = {}
    if dim == 4:
        x[0, 0], parameters = math.nan, {"flow": "diagonal"}
    with pytest.raises(UserError, match="covariance: expected 'auto' or 'shared' for more than 64"):
        BrunoClassifier(covariance="own", **parameters).fit(x, y)
    assert BrunoClassifier(**parameters).fit(x, y).covariance_ == "shared"


def test_other_words_are_refused():
    with pytest.raises(UserError, match=r"covariance: expected .*, got 'full'"):
        BrunoClassifier(covariance="full").fit(*load_iris(return_X_y=True))


@pytest.mark.parametrize("distance", [1e9, 1e40])
def test_an_element_very_far_away_leaves_densities_that_are_numbers(fitted, distance):
    x, _ = unlike_classes(20, seed=3)
    grown = copy.deepcopy(fitted).partial_fit(x[:1] + distance, [0])
    assert np.isfinite(grown.predict_log_proba(x)).all()


@pytest.mark.parametrize("weighted", [False, True])
def test_evidence_by_matrix_products_is_that_of_the_statistics(weighted):
    process, z, classes = process_of("gaussian", 3), draws(20, 3), torch.arange(20) % 3
    weight = torch.linspace(0.5, 2, 20, dtype=torch.float64) if weighted else None
    found = process.evidence_of(z, classes, weight)
    expected = Evidence.by_class(process.statistics(z), classes, weight)
    for name in ("count", "mean", "scatter"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))
