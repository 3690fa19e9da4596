import math

import mpmath as mp
import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bruno import Evidence, ExchangeableGaussian, ExchangeableStudentT, UserError
from bruno.processes.student_t import _scale_of
from bruno.seeding import generator_for
from tests.processes.families import CORRELATIONS, FAMILIES, draw, family


def covariance_matrix(process, n, d):
    v, c = float(process.variance[d]), float(process.covariance[d])
    return np.full((n, n), c) + np.eye(n) * (v - c)


def mpmath_log_probs(process, z):
    """Return the one-step-ahead terms by the paper's recurrence, one dimension, in 40 digits."""
    mp.mp.dps = 40
    mu = mp.mpf(float(process.loc[0]))
    noise, c = mp.mpf(float(process.noise[0])), mp.mpf(float(process.covariance[0]))
    v = noise + c  # the same covariance matrix that the process means, free of its rounding
    student = isinstance(process, ExchangeableStudentT)
    nu = mp.mpf(float(process.df[0])) if student else mp.inf
    mean, variance, beta, terms = mu, v, mp.mpf(0), []
    for i, value in enumerate(mp.mpf(float(x)) for x in z[:, 0]):
        distance = (value - mean) ** 2
        if student:
            df = nu + i
            scale = variance * (nu + beta - 2) / (nu + i - 2) * (df - 2) / df
            terms.append(
                mp.loggamma((df + 1) / 2)
                - mp.loggamma(df / 2)
                - mp.log(df * mp.pi * scale) / 2
                - (df + 1) / 2 * mp.log(1 + distance / (df * scale))
            )
        else:
            terms.append(-(mp.log(2 * mp.pi * variance) + distance / variance) / 2)
        beta += distance / variance
        d = c / (noise + c * (i + 1))
        mean, variance = (1 - d) * mean + d * value, (1 - d) * variance + d * noise
    return terms


def scipy_log_prob(process, z, d):
    n = len(z)
    mean, matrix = np.full(n, float(process.loc[d])), covariance_matrix(process, n, d)
    if isinstance(process, ExchangeableGaussian):
        return scipy.stats.multivariate_normal(mean, matrix).logpdf(z)
    df = float(process.df[d])
    return scipy.stats.multivariate_t(mean, matrix * (df - 2) / df, df=df).logpdf(z)


@family
@pytest.mark.parametrize("correlation", CORRELATIONS)
@pytest.mark.parametrize("n", [1, 2, 20])
@torch.no_grad()
def test_joint_agrees_with_scipy(make, correlation, n):
    process = make(1, correlation)
    z = draw(process, n)
    expected = scipy_log_prob(process, z[:, 0].numpy(), 0)
    assert float(process.log_prob(z)) == pytest.approx(expected, abs=1e-9)


@family
@torch.no_grad()
def test_dimensions_are_independent(make):
    process = make(5)
    z = draw(process, 7)
    expected = sum(scipy_log_prob(process, z[:, d].numpy(), d) for d in range(5))
    assert float(process.log_prob(z)) == pytest.approx(expected, abs=1e-9)


@family
@pytest.mark.parametrize("correlation", CORRELATIONS)
@torch.no_grad()
def test_a_thousand_elements_agree_with_the_recurrence_of_the_paper(make, correlation):
    """scipy's factorisation of a 1000 x 1000 matrix loses digits; the recurrence in mpmath not."""
    process = make(1, correlation)
    z = draw(process, 1000)
    expected = mpmath_log_probs(process, z)
    terms = process.predictive_log_prob(z).numpy()
    np.testing.assert_allclose(terms, [float(t) for t in expected], rtol=0, atol=1e-9)
    assert float(process.log_prob(z)) == pytest.approx(float(sum(expected)), abs=1e-9)


@family
@pytest.mark.parametrize("correlation", CORRELATIONS)
@torch.no_grad()
def test_one_step_ahead_terms_sum_to_the_joint(make, correlation):
    process = make(6, correlation)
    z = draw(process, 3, 50)
    torch.testing.assert_close(
        process.predictive_log_prob(z).sum(-1), process.log_prob(z), rtol=1e-12, atol=1e-8
    )


@family
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 30))
@torch.no_grad()
def test_joint_is_invariant_under_permutation(make, seed, n):
    process = make(4, 0.99)
    z = draw(process, n, seed=seed)
    order = torch.randperm(n, generator=generator_for(seed))
    a, b = float(process.log_prob(z)), float(process.log_prob(z[order]))
    assert abs(a - b) <= 1e-9 * abs(a)


@family
@torch.no_grad()
def test_marginals_are_consistent(make):
    """Integrating the last element out of the joint leaves the joint of the others."""
    process = make(1, 0.7)
    z = draw(process, 3)
    # Substituting z = tan(u) brings the heavy tails into a finite interval.
    u = torch.linspace(-math.pi / 2, math.pi / 2, 200_001, dtype=torch.float64)[1:-1]
    last = u.tan().unsqueeze(-1)
    sets = torch.cat([z.expand(len(u), 3, 1), last.unsqueeze(-1)], 1)
    density = process.log_prob(sets).exp() * (1 + u.tan().square())
    total = torch.trapezoid(density, u)
    assert float(total.log()) == pytest.approx(float(process.log_prob(z)), abs=1e-5)


@family
@torch.no_grad()
def test_predictive_is_the_ratio_of_joints(make):
    process = make(3, 0.8)
    z = draw(process, 5)
    evidence = Evidence.of(z[:4])
    ratio = process.log_prob(z) - process.log_prob(z[:4])
    torch.testing.assert_close(process.predictive(evidence).log_prob(z[4]), ratio)


@family
@torch.no_grad()
def test_empty_and_single_sets_are_valid(make):
    process = make(3)
    assert float(process.log_prob(torch.zeros(0, 3))) == 0.0
    assert process.predictive_log_prob(torch.zeros(2, 0, 3)).shape == (2, 0)
    z = draw(process, 1)
    prior = process.predictive(Evidence.empty(3))
    torch.testing.assert_close(process.log_prob(z), prior.log_prob(z[0]))
    torch.testing.assert_close(prior.mean, process.loc)
    torch.testing.assert_close(prior.variance, process.variance)


@family
@torch.no_grad()
def test_batched_equals_looped(make):
    process = make(3)
    z = draw(process, 2, 4, 6)
    assert process.log_prob(z).shape == (2, 4)
    for i in range(2):
        for j in range(4):
            torch.testing.assert_close(process.log_prob(z)[i, j], process.log_prob(z[i, j]))
            torch.testing.assert_close(
                process.predictive_log_prob(z)[i, j], process.predictive_log_prob(z[i, j])
            )


@family
@torch.no_grad()
def test_evidence_of_sets_of_different_sizes_gives_their_joints(make):
    process = make(3)
    sets = [draw(process, n, seed=n) for n in (0, 1, 5)]
    parts = [Evidence.of(z) for z in sets]
    ragged = Evidence(
        torch.stack([part.count for part in parts]),
        torch.stack([part.mean for part in parts]),
        torch.stack([part.scatter for part in parts]),
    )
    expected = torch.stack([process.log_prob(z) for z in sets])
    torch.testing.assert_close(process.log_prob_of(ragged), expected)
    with pytest.raises(UserError, match="evidence: expected 3 dimensions, got 2"):
        process.log_prob_of(Evidence.empty(2))


@family
@torch.no_grad()
def test_correlation_can_be_set(make):
    process = make(3)
    variance = process.variance
    process.set_correlation(torch.tensor([0.0, 0.5, 0.9]))
    torch.testing.assert_close(process.correlation, torch.tensor([0, 0.5, 0.9]).double())
    torch.testing.assert_close(process.variance, variance)
    with pytest.raises(UserError, match="correlation: expected numbers in"):
        process.set_correlation(torch.ones(3))


@family
@pytest.mark.parametrize("method", ["log_prob", "predictive_log_prob"])
def test_gradients_reach_every_parameter(make, method):
    process = make(3)
    getattr(process, method)(draw(process, 2, 4)).sum().backward()
    for name, parameter in process.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).all()), name


@torch.no_grad()
def test_student_t_becomes_gaussian():
    parameters = {"variance": torch.tensor([1.0, 2.0]), "covariance": torch.tensor([0.5, 1.9])}
    gaussian = ExchangeableGaussian.from_parameters(**parameters)
    student = ExchangeableStudentT.from_parameters(**parameters, df=1e9)
    z = draw(gaussian, 6)
    torch.testing.assert_close(student.log_prob(z), gaussian.log_prob(z), rtol=1e-6, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("df", [1e6, 1e9, 1e12, 1e15])
def test_many_degrees_of_freedom_lose_no_digits(df):
    parameters = {"variance": torch.tensor([1.0]), "covariance": torch.tensor([0.5])}
    gaussian = ExchangeableGaussian.from_parameters(**parameters)
    student = ExchangeableStudentT.from_parameters(**parameters, df=df)
    z = draw(gaussian, 6)
    evidence = Evidence.of(z[:3])
    for a, b in (
        (student.log_prob(z), gaussian.log_prob(z)),
        (student.predictive_log_prob(z), gaussian.predictive_log_prob(z)),
        (student.log_prob_given(z, evidence[None]), gaussian.log_prob_given(z, evidence[None])),
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9 + 100 / df)


@family
@torch.no_grad()
def test_an_outlier_does_not_spoil_what_comes_after_it(make):
    process = make(1, 0.9999)
    z = torch.tensor([[0.0], [1e-3], [-1e-3], [2e-3], [1e6], [0.0]], dtype=torch.float64)
    terms = process.predictive_log_prob(z)
    for i in range(len(z)):
        expected = process.predictive(Evidence.of(z[:i])).log_prob(z[i])
        torch.testing.assert_close(terms[i], expected, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_gaussian_posterior_is_bayes_rule():
    process = ExchangeableGaussian.from_parameters(variance=2.0, covariance=1.5, loc=0.3)
    z = torch.tensor([[1.0], [2.0], [0.5]], dtype=torch.float64)
    posterior = process.posterior(Evidence.of(z))
    precision = 1 / 1.5 + 3 / 0.5
    assert float(posterior.variance) == pytest.approx(1 / precision)
    assert float(posterior.mean) == pytest.approx((0.3 / 1.5 + 3.5 / 0.5) / precision)


@family
@torch.no_grad()
def test_predictive_variance_is_posterior_variance_plus_noise(make):
    """The law of total variance; for Student-t both grow with what the set showed."""
    process = make(4, 0.6)
    evidence = Evidence.of(draw(process, 5))
    inflation = 1.0
    if isinstance(process, ExchangeableStudentT):
        df, inflation = process._inflation(evidence)
        assert bool((df == process.df + 5).all())
    total = process.posterior(evidence).variance + process.noise * inflation
    torch.testing.assert_close(process.predictive(evidence).variance, total)


@family
@torch.no_grad()
def test_samples_follow_the_predictive(make):
    process = make(2, 0.6)
    evidence = Evidence.of(draw(process, 3, 12))
    samples = process.sample(evidence, (20_000,), generator_for(5))
    assert samples.shape == (20_000, 3, 2)
    predictive = process.predictive(evidence).base_dist
    for i in range(3):
        for d in range(2):
            name, arguments = "norm", (predictive.mean[i, d], predictive.stddev[i, d])
            if isinstance(process, ExchangeableStudentT):
                name = "t"
                arguments = (predictive.df[i, d], predictive.loc[i, d], predictive.scale[i, d])
            test = scipy.stats.kstest(samples[:, i, d].numpy(), name, tuple(map(float, arguments)))
            assert test.pvalue > 1e-4
    assert torch.equal(samples, process.sample(evidence, (20_000,), generator_for(5)))


@family
def test_natural_parameters_come_back(make):
    process = make(4, 0.25)
    expected = torch.linspace(0.5, 2.0, 4, dtype=torch.float64)
    torch.testing.assert_close(process.variance, expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(process.covariance, 0.25 * expected, rtol=1e-13, atol=0)
    torch.testing.assert_close(process.noise, 0.75 * expected, rtol=1e-13, atol=0)


def test_defaults_are_those_of_the_paper():
    process = ExchangeableStudentT(3)
    torch.testing.assert_close(process.variance, torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(process.correlation, torch.full((3,), 0.1, dtype=torch.float64))
    torch.testing.assert_close(process.df, torch.full((3,), 1000.0, dtype=torch.float64))
    assert {name for name, _ in process.named_parameters()} == {
        "raw_variance",
        "raw_correlation",
        "raw_df",
    }


@torch.no_grad()
def test_a_covariance_of_zero_means_independence():
    process = ExchangeableGaussian.from_parameters(variance=2.0, covariance=0.0)
    assert float(process.covariance) == 0.0
    assert all(bool(p.isfinite().all()) for p in process.parameters())
    z = torch.tensor([[1.0], [3.0]])
    assert float(process.predictive(Evidence.of(z)).mean) == 0.0


def test_scale_of_a_student_t_gives_its_variance():
    df = torch.tensor(5.0, dtype=torch.float64)
    scale = _scale_of(torch.tensor(3.0, dtype=torch.float64), df)
    assert float(torch.distributions.StudentT(df, 0.0, scale).variance) == pytest.approx(3.0)


def test_state_survives_saving(tmp_path):
    for make in FAMILIES.values():
        process, other = make(3), make(3, 0.1)
        torch.save(process.state_dict(), tmp_path / "p.pt")
        other.load_state_dict(torch.load(tmp_path / "p.pt", weights_only=True))
        z = draw(process, 4)
        assert torch.equal(process.log_prob(z), other.log_prob(z))
        assert repr(process) == f"{type(process).__name__}(dim=3)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variance": torch.ones(2), "covariance": torch.ones(2)}, "covariance: expected 0 <="),
        ({"variance": torch.ones(2), "covariance": -0.1}, "covariance: expected 0 <="),
        ({"variance": 0.0, "covariance": 0.0}, "variance: expected positive"),
        ({"variance": math.nan, "covariance": 0.0}, "variance: expected finite"),
        ({"variance": torch.ones(2), "covariance": torch.zeros(3)}, "common shape"),
        ({"variance": torch.ones(2), "covariance": 0.5, "df": 2.0}, "df: expected more than 2"),
    ],
)
def test_bad_parameters_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        ExchangeableStudentT.from_parameters(**arguments)


@family
def test_bad_input_is_named(make):
    process = make(3)
    with pytest.raises(UserError, match="z: expected 3 dimensions, got 4"):
        process.log_prob(torch.zeros(2, 4))
    with pytest.raises(UserError, match=r"z: expected a floating-point tensor, got torch\.int64"):
        process.log_prob(torch.zeros(2, 3, dtype=torch.int64))
    with pytest.raises(UserError, match="finite"):
        process.predictive_log_prob(torch.full((2, 3), torch.nan))
    with pytest.raises(UserError, match="evidence: expected 3 dimensions, got 4"):
        process.predictive(Evidence.empty(4))
    with pytest.raises(UserError, match=r"expected z \(Q, D\)"):
        process.log_prob_given(torch.zeros(2, 2, 3), Evidence.empty(3, (2,)))
    with pytest.raises(UserError, match="dim"):
        type(process)(0)
