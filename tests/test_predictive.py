"""A predictive is the torch ``Distribution`` that it says it is."""

import math

import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import (
    AffineTransform,
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    TransformedDistribution,
    kl_divergence,
)
from torch.func import vmap
from torch.testing import assert_close

from bruno import (
    Bruno,
    Evidence,
    ExchangeableStudentT,
    Predictive,
    RealNVP,
    UserError,
)
from bruno.flows import ARCHITECTURES
from bruno.seeding import generator_for
from tests.fuzzing import fuzz_settings
from tests.test_transforms import PROCESSES, draw, make_model, processes

AFFINE = ("diagonal", "affine", "affine of rank 2")
CONTINUOUS = sorted({*ARCHITECTURES, *AFFINE} - {"lattice", "sums"})
affine_presets = pytest.mark.parametrize("preset", AFFINE)


def affine_model(preset, process="gaussian", dim=4):
    """Return a model with an affine flow, and its map ``x = z @ matrix + offset``."""
    generator = generator_for(3)
    flow = RealNVP((dim,), preset=preset.split()[0], rank=2 if "rank" in preset else None).double()
    layer = flow.layers.layers[0]
    shift = 5 * torch.randn(dim, generator=generator).double()
    if preset == "diagonal":
        layer.shift.data, layer.log_scale.data = (
            shift,
            torch.randn(dim, generator=generator).double(),
        )
    else:
        size = 2 if "rank" in preset else dim
        matrix = torch.randn(size, size, generator=generator).double() - 2
        maps = (matrix, matrix.inverse(), matrix.slogdet().logabsdet)
        if "rank" in preset:
            layer.span(torch.randn(2, dim, generator=generator).double())
            layer.set(shift, torch.rand(dim, generator=generator).double() + 0.5, *maps)
        else:
            layer.set(shift, *maps)
    variance = torch.linspace(0.5, 2, dim)
    model = Bruno(flow, PROCESSES[process].from_parameters(variance, 0.3))
    basis = torch.cat([torch.zeros(1, dim), torch.eye(dim)]).double()
    offset, *rows = model.decode(basis).detach()
    return model, torch.stack(rows) - offset, offset


@affine_presets
@processes
def test_moments_of_affine_flows(preset, process):
    model, matrix, offset = affine_model(preset, process)
    predictive = model.condition(draw((4,), 3, 5))
    latent = model.process.predictive(predictive.evidence)
    assert_close(predictive.mean, latent.mean @ matrix + offset)
    assert_close(predictive.variance, latent.variance @ matrix.square())
    assert_close(predictive.stddev, predictive.variance.sqrt())
    samples = predictive.sample(20_000, generator=generator_for(0))
    error = ((samples.mean(0) - predictive.mean) / predictive.stddev).detach()
    assert float(error.abs().max()) < 4.5 / math.sqrt(20_000)
    torch.testing.assert_close(samples.var(0), predictive.variance, rtol=0.1, atol=0)


@affine_presets
@processes
def test_moments_are_differentiable_and_can_be_mapped(preset, process):
    model, _, _ = affine_model(preset, process)
    x = draw((4,), 3, 5)

    def moments(x):
        predictive = model.condition(x)
        return predictive.mean, predictive.variance

    assert_close(vmap(moments)(x), moments(x))
    parameters = dict(model.named_parameters())
    sum(moment.square().sum() for moment in moments(x)).backward()
    assert all(bool((value.grad != 0).any()) for value in parameters.values())
    with torch.inference_mode():
        assert_close(moments(x), moments(x))


def test_variance_does_not_need_a_jacobian_at_once(monkeypatch):
    model, _, _ = affine_model("affine")
    whole = model.prior().variance
    monkeypatch.setattr("bruno.chunks.MEMORY_ELEMENTS", 5)
    assert_close(model.prior().variance, whole)


def one_dimensional(process, preset, slope):
    """Return a model of numbers ``x`` with latent ``slope · (x − 3)``."""
    flow = RealNVP((1,), preset=preset).double()
    layer = flow.layers.layers[0]
    if preset == "diagonal":
        layer.shift.data.fill_(-3)
        layer.log_scale.data.fill_(math.log(slope))
    else:
        value = torch.tensor([[slope]]).double()
        layer.set(torch.tensor([-3.0]), value, 1 / value, value.abs().log().squeeze())
    settings = {"df": 5.0} if process == "student_t" else {}
    return Bruno(flow, PROCESSES[process].from_parameters([2.0], 0.5, **settings))


@processes
@pytest.mark.parametrize(
    ("preset", "slope"), [("diagonal", 0.5), ("affine", 2.0), ("affine", -0.25)]
)
def test_cumulative_probabilities_in_one_dimension(process, preset, slope):
    model = one_dimensional(process, preset, slope)
    predictive = model.condition(draw((1,), 2, 3))
    mean, deviation = predictive.mean.detach(), predictive.stddev.detach()
    if process == "gaussian":
        oracle = scipy.stats.norm(mean.numpy(), deviation.numpy())
    else:
        df = 5 + 3
        scale = deviation * math.sqrt((df - 2) / df)
        oracle = scipy.stats.t(df, mean.numpy(), scale.numpy())
    x = mean + deviation * torch.tensor([-12.0, -3.0, 0.0, 0.5, 4.0]).double().view(-1, 1, 1)
    cdf = predictive.cdf(x)
    assert cdf.shape == (5, 2)
    assert_close(cdf, torch.from_numpy(oracle.cdf(x.numpy()))[..., 0], rtol=1e-10, atol=0)
    assert_close(predictive.icdf(cdf[:4]), x[:4], rtol=1e-8, atol=1e-9)
    p = torch.tensor([[1e-200, 1e-20], [0.3, 0.5], [0.9, 1 - 1e-9]]).double()
    quantiles = torch.from_numpy(oracle.ppf(p.unsqueeze(-1).numpy()))
    assert_close(predictive.icdf(p), quantiles, rtol=1e-7, atol=1e-7)
    ends = predictive.icdf(torch.tensor([[0.0], [1.0]]).double())
    assert ends.tolist() == [[[-math.inf]] * 2, [[math.inf]] * 2]
    # The density is the derivative of the cumulative probabilities.
    step = 1e-5
    slope_of_cdf = (predictive.cdf(mean + step) - predictive.cdf(mean - step)) / (2 * step)
    assert_close(slope_of_cdf, predictive.log_prob(mean).exp(), rtol=1e-6, atol=0)
    samples = predictive.sample(2000, generator=generator_for(1))
    for uniform in predictive.cdf(samples).unbind(1):
        assert scipy.stats.kstest(uniform.detach().numpy(), "uniform").pvalue > 1e-4


def test_gradient_of_a_gaussian_cumulative_probability_is_the_density():
    predictive = one_dimensional("gaussian", "affine", -2.0).condition(draw((1,), 3))
    x = torch.linspace(-1, 5, 7).double().unsqueeze(-1).requires_grad_()
    predictive.cdf(x).sum().backward()
    assert_close(x.grad.squeeze(-1), predictive.log_prob(x).exp())
    p = torch.tensor([0.0, 0.5]).double().requires_grad_()
    assert float(torch.autograd.grad(predictive.icdf(p)[1].sum(), p)[0][1]) > 0
    student_t = one_dimensional("student_t", "affine", -2.0).prior()
    assert not student_t.cdf(x).requires_grad  # rather than without that of the df


def test_what_is_no_probability_is_refused():
    predictive = one_dimensional("gaussian", "diagonal", 1.0).condition(draw((1,), 3, 2))
    for wrong in (torch.tensor(-0.1), torch.tensor(1.1), torch.tensor(torch.nan)):
        with pytest.raises(UserError, match="value: expected probabilities from 0 to 1"):
            predictive.icdf(wrong)
    for wrong in (0.5, torch.tensor(1)):
        with pytest.raises(UserError, match="value: expected a floating-point tensor, got"):
            predictive.icdf(wrong)
    with pytest.raises(UserError, match=r"value: expected batch dimensions .* \(3,\), got \(2,\)"):
        predictive.icdf(torch.tensor([0.1, 0.2]))
    with pytest.raises(UserError, match="x: expected shape"):
        predictive.cdf(torch.tensor(0.5))


@pytest.mark.parametrize("preset", CONTINUOUS)
def test_gradients_of_reparametrised_samples(preset):
    """They are those of the samples as a function of every parameter, for the same noise."""
    model = make_model(preset)
    seen = model.encode(draw(model.event_shape, 4)).detach()

    def samples():
        predictive = Predictive(model, Evidence.of(seen))
        return predictive.rsample((3,), generator=generator_for(0))

    together = model.condition(model.decode(seen))
    assert_close(samples(), together.sample(3, generator=generator_for(0)))
    weights = torch.randn(samples().shape, generator=generator_for(1)).double()
    (samples() * weights).sum().backward()
    generator, step, found = generator_for(2), 1e-6, 0.0
    directions = []
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        directions.append(torch.randn(parameter.shape, generator=generator).to(parameter))
        found += float((parameter.grad * directions[-1]).sum())
    values = []
    for move in (step, -2 * step):
        for parameter, direction in zip(model.parameters(), directions, strict=True):
            parameter.data += move * direction
        values.append(float((samples().detach() * weights).sum()))
    assert found == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5)


def test_gradients_reach_what_was_seen():
    model = make_model("dense", "student_t")
    x = draw(model.event_shape, 4).requires_grad_()
    model.condition(x).rsample((2,), generator=generator_for(0)).sum().backward()
    assert bool((x.grad != 0).all())
    assert not model.condition(x).sample((2,)).requires_grad


def test_gradient_by_degrees_of_freedom():
    """E|z| of a Student-t variable of variance 1, as a function of its degrees of freedom."""

    def expected(df):
        log_ratio = math.lgamma((df + 1) / 2) - math.lgamma(df / 2)
        return 2 * math.sqrt((df - 2) / math.pi) * math.exp(log_ratio) / (df - 1)

    process = ExchangeableStudentT.from_parameters(torch.ones(1), 0.5, df=5.0)
    z = process.sample(Evidence.empty(1), (400_000,), generator_for(0))
    z.abs().mean().backward()
    by_df = float(process.raw_df.grad) / 3  # the parameter is log(df − 2)
    assert by_df == pytest.approx((expected(5.01) - expected(4.99)) / 0.02, rel=0.1)


def test_discontinuous_flows_have_no_reparametrised_samples():
    predictive = make_model("lattice").prior()
    assert predictive.has_rsample is False
    with pytest.raises(NotImplementedError, match="rsample: samples of a 'lattice' flow jump"):
        predictive.rsample()
    assert make_model("compact").prior().has_rsample is True


@pytest.mark.parametrize("preset", ["dense", "diagonal", "compact"])
def test_what_has_no_closed_form_is_refused_in_a_sentence(preset):
    predictive = make_model(preset).prior()
    x = draw(predictive.event_shape)
    calls = {
        "cdf": lambda: predictive.cdf(x),
        "icdf": lambda: predictive.icdf(torch.tensor(0.5)),
        "mode": lambda: predictive.mode,
        "entropy": predictive.entropy,
        "perplexity": predictive.perplexity,
        "enumerate_support": predictive.enumerate_support,
        "kl_divergence": lambda: kl_divergence(predictive, predictive),
    }
    if preset != "diagonal":
        calls |= {name: lambda name=name: getattr(predictive, name) for name in MOMENTS}
    for name, call in calls.items():
        with pytest.raises(NotImplementedError) as caught:
            call()
        assert len(str(caught.value).split()) > 4, name


MOMENTS = ("mean", "variance", "stddev")


def test_every_method_of_torch_is_there():
    ours = vars(Predictive)
    left_to_torch = {"mode", "stddev", "perplexity", "sample_n", "batch_shape", "event_shape"}
    public = {name for name in vars(Distribution) if not name.startswith("_")}
    general = {"set_default_validate_args", "has_enumerate_support"}
    assert public - general - left_to_torch <= ours.keys()


def test_expanding_copies_nothing_and_keeps_the_law():
    model = make_model("dense")
    predictive = model.condition(draw(model.event_shape, 3, 4))
    larger = predictive.expand((2, 3))
    assert type(larger) is Predictive
    assert larger.model is model
    assert larger.evidence.mean.data_ptr() == predictive.evidence.mean.data_ptr()
    new = draw(model.event_shape, 2, 3)
    assert_close(larger.log_prob(new), predictive.log_prob(new))
    observed = larger.observe(new)
    assert_close(observed.evidence.mean[1], predictive.observe(new[1]).evidence.mean)
    with pytest.raises(UserError, match=r"batch_shape: expected a shape that \(3,\) broadcasts to"):
        predictive.expand((3, 2))

    class Named(Predictive):
        def __init__(self, model):
            super().__init__(model, Evidence.empty(model.process.dim))

    with pytest.raises(NotImplementedError, match=r"must also define a custom \.expand"):
        Named(model).expand((2, 3))


def test_sample_shapes_are_given_as_torch_does():
    model = make_model("dense")
    predictive = model.condition(draw(model.event_shape, 3, 4))
    whole = predictive.sample(sample_shape=torch.Size([2, 5]), generator=generator_for(0))
    assert whole.shape == (2, 5, 3, *model.event_shape)
    assert torch.equal(whole, predictive.sample((2, 5), None, generator_for(0)))
    assert predictive.rsample(2).shape == predictive.sample(2).shape
    with pytest.warns(FutureWarning, match="sample_n"):
        assert predictive.sample_n(2).shape == (2, 3, *model.event_shape)
    for draws in (predictive.sample, predictive.rsample):
        with pytest.raises(UserError, match="sample_shape: expected sizes of at least 0"):
            draws((2, -1))
        with pytest.raises(UserError, match="sample_shape: expected a whole number or a shape"):
            draws("two")


@processes
def test_torch_builds_on_it(process):
    model, _, _ = affine_model("affine", process)
    predictive = model.condition(draw((4,), 3, 5))
    x = draw((4,), 2, 3, seed=1)
    independent = Independent(predictive, 1)
    assert_close(independent.log_prob(x), predictive.log_prob(x).sum(-1))
    assert_close(independent.variance, predictive.variance)
    assert independent.rsample((2,)).shape == (2, 3, 4)
    assert independent.has_rsample
    mixture = MixtureSameFamily(Categorical(probs=torch.tensor([0.2, 0.3, 0.5])), predictive)
    weighted = predictive.log_prob(x[:, :1]) + torch.tensor([0.2, 0.3, 0.5]).double().log()
    assert_close(mixture.log_prob(x[:, 0]), weighted.logsumexp(-1))
    assert mixture.sample((2,)).shape == (2, 4)
    assert mixture.mean.shape == mixture.variance.shape == (4,)
    scaled = TransformedDistribution(predictive, [AffineTransform(1.0, 2.0, event_dim=1)])
    assert_close(scaled.log_prob(2 * x + 1), predictive.log_prob(x) - 4 * math.log(2))
    assert scaled.expand((2, 3)).rsample().shape == (2, 3, 4)


shapes = st.lists(st.integers(0, 3), max_size=3).map(tuple)


@fuzz_settings(25)
@given(
    preset=st.sampled_from(sorted({*ARCHITECTURES, *AFFINE})),
    process=st.sampled_from(sorted(PROCESSES)),
    batch=shapes,
    size=st.integers(0, 3),
    extra=shapes,
    sample_shape=shapes,
    seed=st.integers(0, 1000),
)
def test_shapes_and_laws_of_any_predictive(preset, process, batch, size, extra, sample_shape, seed):
    """Whatever the shapes, what torch promises of a distribution holds."""
    model = make_model(preset, process)
    event = model.event_shape
    predictive = model.condition(draw(event, *batch, size, seed=seed))
    assert predictive.batch_shape == batch
    larger = predictive.expand((*extra, *batch))
    for one in (predictive, larger):
        assert one.event_shape == event
        samples = one.sample(sample_shape=sample_shape, generator=generator_for(seed))
        assert samples.shape == one._extended_shape(sample_shape)
        assert not samples.requires_grad
        if samples.numel():  # torch cannot check no elements
            assert bool(one.support.check(samples).all())
        log_prob = one.log_prob(samples)
        assert log_prob.shape == (*sample_shape, *one.batch_shape)
        assert bool(log_prob.isfinite().all())
        if one.has_rsample:
            again = one.rsample(sample_shape, generator=generator_for(seed))
            assert torch.equal(again, samples)
            assert again.requires_grad or not again.numel()
        if model.flow.is_affine:
            assert one.mean.shape == one.variance.shape == (*one.batch_shape, *event)
            assert bool((one.variance > 0).all())
    x = draw(event, *sample_shape, *extra, *batch, seed=seed + 1)
    assert_close(larger.log_prob(x), predictive.log_prob(x))
    seen = draw(event, *extra, *batch, seed=seed)
    assert_close(larger.observe(seen).forget(seen).log_prob(x), larger.log_prob(x))
