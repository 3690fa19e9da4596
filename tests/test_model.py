import pytest
import scipy.stats
import torch

from bruno import Bruno, Evidence, ExchangeableGaussian, ExchangeableStudentT, RealNVP, UserError
from bruno.seeding import generator_for

PROCESSES = {"gaussian": ExchangeableGaussian, "student_t": ExchangeableStudentT}
processes = pytest.mark.parametrize("process", PROCESSES)


def make_model(process="gaussian", event_shape=(1, 4, 4), context_dim=0):
    """Return a small model in double precision whose flow and process really do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP(
            event_shape,
            context_dim,
            dense_units=8,
            dense_couplings=2,
            **({"filters": 6} if len(event_shape) == 3 else {}),
        ).double()
        x = draw(event_shape, 32)
        flow.initialise(x, torch.randn(32, context_dim).double() if context_dim else None)
        with torch.no_grad():
            for parameter in flow.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    covariance = torch.linspace(0.1, 0.9, flow.dim)
    return Bruno(flow, PROCESSES[process].from_parameters(torch.ones(flow.dim), covariance))


def draw(event_shape, *shape, seed=0):
    x = torch.rand(*shape, *event_shape, generator=generator_for(seed), dtype=torch.float64)
    return 256 * x if len(event_shape) == 3 else 4 * x - 2


@processes
@torch.no_grad()
def test_joint_is_process_plus_log_determinants(process):
    model = make_model(process)
    x = draw(model.event_shape, 3, 5)
    z, log_det = model(x)
    assert model.log_prob(x).shape == (3,)
    torch.testing.assert_close(model.log_prob(x), model.process.log_prob(z) + log_det.sum(-1))
    torch.testing.assert_close(model.predictive_log_prob(x).sum(-1), model.log_prob(x))


@processes
@torch.no_grad()
def test_joint_does_not_depend_on_the_order(process):
    model = make_model(process)
    x = draw(model.event_shape, 20)
    joint = float(model.log_prob(x))
    for seed in range(5):
        order = torch.randperm(20, generator=generator_for(seed))
        assert abs(float(model.log_prob(x[order])) - joint) <= 1e-9 * abs(joint)


@torch.no_grad()
def test_joint_of_pairs_does_not_depend_on_the_order_with_context():
    model = make_model(context_dim=2)
    x, context = draw(model.event_shape, 8), torch.randn(8, 2).double()
    order = torch.randperm(8)
    joint = float(model.log_prob(x, context))
    assert abs(float(model.log_prob(x[order], context[order])) - joint) <= 1e-9 * abs(joint)
    assert float(model.log_prob(x, context[order])) != pytest.approx(joint)


@processes
@torch.no_grad()
def test_density_of_an_element_integrates_to_one(process):
    model = make_model(process, event_shape=(2,))
    predictive = model.condition(draw((2,), 4))
    grid = torch.linspace(-12, 12, 601, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    mass = predictive.log_prob(points).exp().sum() * (grid[1] - grid[0]) ** 2
    assert float(mass) == pytest.approx(1.0, abs=0.02 if process == "student_t" else 1e-3)


@processes
@torch.no_grad()
def test_predictive_is_the_ratio_of_joints(process):
    model = make_model(process)
    x = draw(model.event_shape, 6)
    ratio = model.log_prob(x) - model.log_prob(x[:5])
    torch.testing.assert_close(model.condition(x[:5]).log_prob(x[5]), ratio)
    torch.testing.assert_close(model.prior().log_prob(x[0]), model.log_prob(x[:1]))


@torch.no_grad()
def test_observing_one_by_one_equals_conditioning_at_once_and_forgetting_undoes_it():
    model = make_model()
    x, probe = draw(model.event_shape, 6), draw(model.event_shape, 3, seed=1)
    prior = model.prior()
    predictive = prior
    for element in x:
        predictive = predictive.observe(element)
    together = model.condition(x)
    torch.testing.assert_close(predictive.log_prob(probe), together.log_prob(probe))
    fewer = predictive.forget(x[4:])
    torch.testing.assert_close(fewer.log_prob(probe), model.condition(x[:4]).log_prob(probe))
    torch.testing.assert_close(fewer.forget(x[:4]).log_prob(probe), prior.log_prob(probe))
    assert int(prior.evidence.count) == 0  # what was derived left the original as it was
    assert int(predictive.evidence.count) == 6


@torch.no_grad()
def test_forgetting_works_in_single_precision():
    model = make_model().float()
    x = draw(model.event_shape, 6).float()
    predictive = model.condition(x).forget(x[3])
    kept = torch.cat([x[:3], x[4:]])
    probe = draw(model.event_shape, seed=1).float()
    torch.testing.assert_close(
        predictive.log_prob(probe), model.condition(kept).log_prob(probe), rtol=1e-4, atol=1e-2
    )


@processes
@torch.no_grad()
def test_batches_of_sets_are_independent(process):
    model = make_model(process)
    x, probe = draw(model.event_shape, 3, 4), draw(model.event_shape, 5, 3, seed=1)
    predictive = model.condition(x)
    assert predictive.batch_shape == (3,)
    assert predictive.event_shape == model.event_shape
    assert predictive.log_prob(probe).shape == (5, 3)
    for i in range(3):
        alone = model.condition(x[i])
        torch.testing.assert_close(predictive.log_prob(probe)[:, i], alone.log_prob(probe[:, i]))
    observed = predictive.observe(probe[0])
    torch.testing.assert_close(
        observed.evidence.mean[1], model.condition(x[1]).observe(probe[0, 1]).evidence.mean
    )


@torch.no_grad()
def test_conditioning_on_nothing_is_the_prior():
    model = make_model()
    probe = draw(model.event_shape, 3)
    nothing = model.condition(draw(model.event_shape, 0))
    torch.testing.assert_close(nothing.log_prob(probe), model.prior().log_prob(probe))
    assert float(model.log_prob(draw(model.event_shape, 0))) == 0.0


@processes
@torch.no_grad()
def test_samples_follow_the_density(process):
    """Through the flow, the density at samples has the distribution of the process's own."""
    model = make_model(process)
    predictive = model.condition(draw(model.event_shape, 3))
    samples = predictive.sample(2000, generator=generator_for(1))
    assert samples.shape == (2000, *model.event_shape)
    assert bool(((samples >= 0) & (samples <= 256)).all())
    z = model.encode(samples)
    base = model.process.predictive(predictive.evidence).base_dist
    for d in (0, 7, 15):
        standard = (z[:, d] - base.mean[d]) / base.stddev[d]
        assert scipy.stats.kstest(standard.numpy(), "norm").pvalue > 1e-4


@torch.no_grad()
def test_samples_are_reproducible_and_shaped_like_those_of_torch():
    model = make_model()
    predictive = model.condition(draw(model.event_shape, 3, 2))
    a = predictive.sample(4, generator=generator_for(1))
    assert a.shape == (4, 3, *model.event_shape)
    assert torch.equal(a, predictive.sample(4, generator=generator_for(1)))
    assert not torch.equal(a, predictive.sample(4, generator=generator_for(2)))
    assert predictive.sample().shape == (3, *model.event_shape)
    assert predictive.sample((2, 5)).shape == (2, 5, 3, *model.event_shape)
    assert predictive.sample(0).shape == (0, 3, *model.event_shape)
    assert predictive.support.check(a).all()


@processes
@torch.no_grad()
def test_latent_scale_shrinks_samples_towards_the_image_of_the_mean(process):
    model = make_model(process)
    predictive = model.condition(draw(model.event_shape, 4))
    mean = model.process.predictive(predictive.evidence).mean
    exact, half, cold = (
        model.encode(predictive.sample(5, generator=generator_for(1), latent_scale=t))
        for t in (1.0, 0.5, 0.0)
    )
    torch.testing.assert_close(half - mean, (exact - mean) / 2, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(cold, mean.expand(5, -1), rtol=1e-6, atol=1e-6)
    with pytest.raises(UserError, match="latent_scale: expected a number of at least 0"):
        predictive.sample(1, latent_scale=-0.5)


@torch.no_grad()
def test_context_is_passed_everywhere():
    model = make_model(context_dim=2)
    x, context = draw(model.event_shape, 4), torch.randn(4, 2).double()
    predictive = model.condition(x, context)
    torch.testing.assert_close(
        predictive.log_prob(x[0], context[0]) + model.log_prob(x, context),
        model.log_prob(torch.cat([x, x[:1]]), torch.cat([context, context[:1]])),
    )
    same = predictive.sample(3, context[0], generator_for(0))
    each = predictive.sample(3, context[0].expand(3, 2), generator_for(0))
    other = predictive.sample(3, context[1], generator_for(0))
    assert torch.equal(same, each)
    assert not torch.allclose(same, other)
    removed = predictive.forget(x[3], context[3])
    torch.testing.assert_close(
        removed.evidence.mean, model.condition(x[:3], context[:3]).evidence.mean
    )
    torch.testing.assert_close(model.decode(model.encode(x, context), context), x)
    with pytest.raises(UserError, match="context: this model needs one"):
        predictive.sample(3)
    with pytest.raises(UserError, match="context: expected a shape that broadcasts"):
        predictive.sample(3, torch.zeros(2, 2))
    for wrong in ([0.0, 1.0], torch.tensor(1.0)):
        with pytest.raises(UserError, match="context: expected a"):
            predictive.sample(3, wrong)


def test_a_model_of_vectors_works_like_one_of_images():
    model = make_model(event_shape=(5,))
    x = draw((5,), 3, 4)
    assert model.log_prob(x).shape == (3,)
    assert model.condition(x).sample(2).shape == (2, 3, 5)
    assert not model.prior().support.check(torch.full((5,), torch.nan)).all()


def test_gradients_reach_flow_and_process():
    model = make_model("student_t")
    (-model.log_prob(draw(model.event_shape, 2, 5)).mean()).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert bool((parameter.grad != 0).any()), name


def test_bad_input_is_named():
    model = make_model()
    with pytest.raises(UserError, match=r"x: expected sets of shape \(\*B, n, 1, 4, 4\)"):
        model.log_prob(draw(model.event_shape))
    with pytest.raises(UserError, match=r"x: expected shape \(\*B, 1, 4, 4\)"):
        model.condition(torch.zeros(2, 3, 4, 4))
    with pytest.raises(UserError, match="floating-point tensor, got torch"):
        make_model(event_shape=(5,)).log_prob(torch.zeros(2, 5, dtype=torch.uint8))
    with pytest.raises(UserError, match="floating-point tensor, got list"):
        model.log_prob([1.0])
    with pytest.raises(UserError, match="sample_shape: expected sizes of at least 0"):
        model.prior().sample(-1)
    with pytest.raises(UserError, match=r"z: expected shape \(\[n,\] 16\)"):
        model.prior().observe(draw(model.event_shape, 2, 3))
    with pytest.raises(UserError, match="forget: expected at most as many"):
        model.prior().forget(draw(model.event_shape))
    with pytest.raises(UserError, match="process: expected the 16 dimensions"):
        Bruno(model.flow, ExchangeableGaussian(3))


def test_repr_tells_what_was_seen():
    model = make_model()
    assert repr(model.condition(draw(model.event_shape, 3))) == (
        "Predictive(batch_shape=(), event_shape=(1, 4, 4), count=3)"
    )
    assert model.prior().evidence.dim == Evidence.empty(16).dim
    assert model.prior().model is model


@torch.no_grad()
def test_no_elements_have_no_densities_and_wrong_batches_are_named():
    model = make_model()
    predictive = model.condition(draw(model.event_shape, 3, 2))
    assert predictive.log_prob(draw(model.event_shape, 0, 3)).shape == (0, 3)
    with pytest.raises(UserError, match=r"x: expected batch dimensions that broadcast with \(3,\)"):
        predictive.log_prob(draw(model.event_shape, 2))
    for n in (2.5, "two"):
        with pytest.raises(UserError, match="sample_shape: expected a whole number"):
            predictive.sample(n)
