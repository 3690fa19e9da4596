import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bruno import BrunoClassifier, BrunoDensity, Evidence
from bruno.estimators import two_covariance_flow
from bruno.estimators.two_covariance import fit_process
from bruno.estimators.two_covariance_flow import fit_flow
from bruno.seeding import generator_for
from tests.estimators.iris import X, Y, fitted


@pytest.mark.parametrize("magnitude", [1e-300, 1e150, 1e300])
def test_magnitudes_do_not_matter(magnitude):
    expected = fitted().predict_proba(X)
    scaled = BrunoClassifier(random_state=0).fit(X[::2] * magnitude, Y[::2])
    np.testing.assert_allclose(scaled.predict_proba(X * magnitude), expected, atol=1e-6)


def test_the_largest_numbers_are_taken():
    x = np.array([[-1.7e308, 1.0], [1.7e308, 2.0], [-1e308, 3.0], [1e308, 4.0]])
    for scale in ("per_feature", "global"):
        assert np.isfinite(BrunoClassifier(scale=scale).fit(x, [0, 1, 0, 1]).predict_proba(x)).all()


def test_what_varies_by_less_than_the_smallest_numbers_does_not_vary():
    classifier = BrunoClassifier(random_state=0).fit(X[::2] * 1e-311, Y[::2])
    np.testing.assert_allclose(classifier.predict_proba(X * 1e-311), 1 / 3, atol=1e-6)


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
        flow = fit_flow(x[rows], y[rows], full=True, global_scale=True)
        model = fit_process(flow, process).model
        evidence = Evidence.by_class(model.encode(x[rows]), y[rows])
        found[process] = float(model.process.log_prob_of(evidence).sum())
        assert model.process.variance.max() < 20
    # Many pixels of a digit are always black, which a Gaussian for all digits cannot know.
    assert found["student_t"] - found["gaussian"] > 300


@pytest.mark.parametrize(("dim", "least", "most"), [(2, 2.5, 20), (300, 280, 320)])
def test_degrees_of_freedom_are_learnt_from_many_classes_of_few_dimensions(dim, least, most):
    generator = generator_for(0)
    deviation = torch.rand(60, 1, dim, generator=generator, dtype=torch.float64).mul(4).sub(2).exp()
    sets = deviation * torch.randn(60, 10, dim, generator=generator, dtype=torch.float64)
    sets = sets + torch.randn(60, 1, dim, generator=generator, dtype=torch.float64)
    classes = torch.arange(60).repeat_interleave(10)
    flow = fit_flow(sets.flatten(0, 1), classes, full=False, global_scale=False)
    model = fit_process(flow, "student_t").model
    df = model.process.df
    assert bool(((df > least) & (df < most)).all()), df


@pytest.mark.parametrize(("number", "dim"), [(1, 8), (12, 50), (40, 784)])
@torch.no_grad()
def test_mixing_what_few_elements_span_is_mixing_all(number, dim, monkeypatch):
    generator = generator_for(0)
    mixture = torch.randn(dim, dim, generator=generator, dtype=torch.float64) / dim**0.5
    x = torch.randn(number, dim, generator=generator, dtype=torch.float64) @ mixture + 3
    queries = torch.randn(20, dim, generator=generator, dtype=torch.float64) @ mixture + 3
    classes = torch.arange(number) % 4
    scores = []
    for little in (True, False):
        monkeypatch.setattr(two_covariance_flow, "spans_little", lambda *_, little=little: little)
        flow = fit_flow(x, classes, full=True, global_scale=False)
        model = fit_process(flow, "gaussian").model
        assert ("rank" in model.flow.config) == little
        z, log_det = model(queries)
        evidence = Evidence.by_class(model.encode(x), classes)
        scores.append(model.process.log_prob_given(z, evidence) + log_det.unsqueeze(1))
    torch.testing.assert_close(scores[0], scores[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize(("number", "dim"), [(12, 60), (12, 20)])
@torch.no_grad()
def test_neither_the_order_of_elements_nor_the_numbers_of_classes_matter(number, dim):
    generator = generator_for(0)
    x = torch.randn(number, dim, generator=generator, dtype=torch.float64).exp().round(decimals=1)
    x[4], x[:2, 0] = x[0], 0
    queries = torch.randn(20, dim, generator=generator, dtype=torch.float64).exp()
    classes, number_of = torch.arange(number) % 4, torch.tensor([2, 0, 3, 1])
    order = torch.randperm(number, generator=generator)
    scores = []
    negative_zeros = x.where(x != 0, -0.0)
    for rows, names in ((x, classes), (negative_zeros[order], number_of[classes[order]])):
        flow = fit_flow(rows, names, full=True, global_scale=True)
        model = fit_process(flow, "student_t").model
        evidence = Evidence.by_class(model.encode(rows), names)
        z, log_det = model(queries)
        scores.append(model.process.log_prob_given(z, evidence) + log_det.unsqueeze(1))
    torch.testing.assert_close(scores[0], scores[1][:, number_of], rtol=0, atol=1e-9)


def test_wide_tables_are_mixed_where_there_are_few_examples():
    rng = np.random.default_rng(0)
    for number, dim, flow in [(20, 1100, "affine"), (300, 1100, "diagonal"), (300, 40, "affine")]:
        x = rng.normal(size=(number, dim))
        density = BrunoDensity().fit(x)
        assert density.flow_ == flow
        assert density.model_.flow.preset == flow
        assert BrunoDensity(density.model_).fit(x).flow_ is None


def one_hot_columns(counts, columns=8, seed=0):
    """Indicators of three values in every column, a third of them redundant, and their classes."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet([2.0, 2.0, 2.0], size=(len(counts), columns))
    y = np.repeat(np.arange(len(counts)), counts)
    values = np.stack([[rng.choice(3, p=share) for share in shares[label]] for label in y])
    return np.eye(3)[values].reshape(len(y), -1), y


def test_redundant_columns_carry_no_evidence_for_the_largest_class():
    x, y = one_hot_columns([40, 40, 300])
    x_new, y_new = one_hot_columns([100, 100, 100])
    parameters = {"process": "student_t", "scale": "global", "temperature": 1.0}
    redundant, kept = (
        BrunoClassifier(**parameters).fit(x[:, columns], y)
        for columns in (slice(None), np.arange(24) % 3 > 0)
    )
    assert redundant.score(x_new, y_new) > kept.score(x_new[:, np.arange(24) % 3 > 0], y_new) - 0.02
    scatter = redundant.evidence_.scatter.sum(0)
    still = scatter < 1e-9
    assert int(still.sum()) == 8
    latent = redundant.model_.process.predictive(redundant.evidence_).base_dist
    of_still = latent.log_prob(redundant.model_.encode(torch.from_numpy(x_new)).unsqueeze(1))
    torch.testing.assert_close(
        of_still[..., still], of_still[:, :1, still].expand(-1, 3, -1), rtol=0, atol=1e-9
    )


def test_with_one_example_of_each_class_variances_are_as_uncertain_as_before():
    x, y = load_digits(return_X_y=True)
    first = [np.flatnonzero(y == digit)[0] for digit in range(10)]
    once, twice = (
        BrunoClassifier(process="student_t", temperature=1.0).fit(x[rows], y[rows])
        for rows in (first, first + first[:1])
    )
    assert once.model_.process.df.max() < 1000
    # Of two equal elements nothing scatters, though it could have.
    assert twice.model_.process.df.min() > 1000
