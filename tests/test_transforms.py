"""Models under ``torch.func``, ``torch.compile`` and ``torch.export``."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, stack_module_state, vmap
from torch.testing import assert_close

from bruno import Bruno, Evidence, ExchangeableGaussian, ExchangeableStudentT, RealNVP, UserError
from bruno.flows import ARCHITECTURES
from bruno.seeding import generator_for
from bruno.validation import check_finite, values_can_be_checked
from tests.flows.architectures import small_sizes
from tests.fuzzing import fuzz_settings

PROCESSES = {"gaussian": ExchangeableGaussian, "student_t": ExchangeableStudentT}
presets = pytest.mark.parametrize("preset", [*ARCHITECTURES, "affine of rank 2"])
processes = pytest.mark.parametrize("process", PROCESSES)


def make_model(preset, process="gaussian", seed=0):
    """Return the smallest model of a preset, in double precision, whose layers all do something."""
    if preset == "affine of rank 2":
        preset, sizes = "affine", {"rank": 2}
    else:
        least = {"filters": 2, "residual_blocks": 0, "dense_units": 2, "dense_couplings": 1}
        sizes = small_sizes(preset)
        sizes |= {name: size for name, size in least.items() if name in sizes}
    shape = (4,) if ARCHITECTURES[preset].takes_vectors else (1, 4, 4)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        flow = RealNVP(shape, preset=preset, **sizes).double()
        flow.initialise(draw(shape, 16))
        for parameter in flow.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    variance, covariance = 1.0 + torch.arange(flow.dim) / flow.dim, 0.5
    return Bruno(flow, PROCESSES[process].from_parameters(variance, covariance))


def draw(event_shape, *shape, seed=0):
    x = torch.rand(*shape, *event_shape, generator=generator_for(seed), dtype=torch.float64)
    return 256 * x if len(event_shape) == 3 else 4 * x - 2


class Densities(nn.Module):
    """What a caller compiles, exports or maps: joint densities and latent vectors of sets."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model.log_prob(x), self.model.encode(x)


@presets
@processes
def test_vmap_is_a_loop(preset, process):
    model = make_model(preset, process)
    x = draw(model.event_shape, 3, 4)
    new = draw(model.event_shape, 3, seed=1)
    z = model.encode(x).detach()
    for function, inputs in (
        (model.log_prob, (x,)),
        (model.predictive_log_prob, (x,)),
        (model.encode, (x,)),
        (model.decode, (z,)),
        (lambda seen, new: model.condition(seen).observe(new).log_prob(new), (x, new)),
    ):
        assert_close(vmap(function)(*inputs), torch.stack(list(map(function, *inputs))))


@presets
@processes
def test_gradients_of_every_set_at_once(preset, process):
    densities = Densities(make_model(preset, process))
    x = draw(densities.model.event_shape, 3, 4)
    parameters = {name: value.detach() for name, value in densities.named_parameters()}

    def joint(parameters, x):
        return functional_call(densities, parameters, (x,))[0]

    by_parameter = vmap(grad(joint), in_dims=(None, 0))(parameters, x)
    for index, one in enumerate(x):
        densities.zero_grad()
        densities.model.log_prob(one).backward()
        for name, parameter in densities.named_parameters():
            assert_close(by_parameter[name][index], parameter.grad, msg=lambda m: f"{name}: {m}")  # noqa: B023
    by_element = vmap(grad(densities.model.log_prob))(x)
    x.requires_grad_()
    assert_close(by_element, torch.autograd.grad(densities.model.log_prob(x).sum(), x)[0])


@presets
@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
def test_an_ensemble_is_evaluated_at_once(preset):
    ensemble = [Densities(make_model(preset, seed=seed)) for seed in range(3)]
    x = draw(ensemble[0].model.event_shape, 4)
    state = stack_module_state(ensemble)
    together = vmap(lambda *state: functional_call(ensemble[0], state, (x,)))(*state)
    for index, member in enumerate(ensemble):
        assert_close(tuple(result[index] for result in together), member(x))


@processes
def test_second_derivatives(process):
    model = make_model("dense", process)
    x = draw(model.event_shape, 3)
    assert_close(jacfwd(model.log_prob)(x), jacrev(model.log_prob)(x))
    assert_close(hessian(model.log_prob)(x), jacrev(jacrev(model.log_prob))(x))


@presets
def test_joint_densities_are_compiled_as_one_graph(preset):
    model = make_model(preset, "student_t")
    x = draw(model.event_shape, 2, 3)
    torch._dynamo.reset()
    compiled = torch.compile(model.log_prob, fullgraph=True, backend="eager")
    assert_close(compiled(x), model.log_prob(x))


@presets
def test_latent_vectors_are_exported(preset):
    model = make_model(preset)
    x = draw(model.event_shape, 2, 3)
    assert_close(torch.export.export(model, (x,)).module()(x), model(x))


@processes
@pytest.mark.parametrize("how", ["compiled", "exported"])
def test_processes_are_compiled_and_exported_as_one_graph(process, how):
    class Process(nn.Module):
        def __init__(self):
            super().__init__()
            self.process = PROCESSES[process](3)

        def forward(self, z):
            evidence = Evidence.of(z)
            return (
                self.process.log_prob(z),
                self.process.predictive_log_prob(z),
                self.process.predictive(evidence).log_prob(z[..., 0, :]),
            )

    z = draw((3,), 2, 4)
    if how == "compiled":
        torch._dynamo.reset()
        graph = torch.compile(Process(), fullgraph=True, backend="aot_eager")
    else:
        graph = torch.export.export(Process(), (z,)).module()
    assert_close(graph(z), Process()(z))


@processes
def test_predictives_are_compiled_as_one_graph(process):
    model = make_model("affine", process)
    x, new = draw(model.event_shape, 2, 3), draw(model.event_shape, 5, 2, seed=1)

    def predict(x, new):
        predictive = model.condition(x)
        return predictive.log_prob(new), predictive.mean, predictive.variance

    torch._dynamo.reset()
    assert_close(torch.compile(predict, fullgraph=True, backend="eager")(x, new), predict(x, new))


def test_exported_for_sets_of_any_number_and_size():
    model = make_model("spectral")
    sizes = {0: torch.export.Dim("sets"), 1: torch.export.Dim("elements")}
    x, other = draw(model.event_shape, 2, 3), draw(model.event_shape, 5, 4, seed=1)
    exported = torch.export.export(Densities(model), (x,), dynamic_shapes=(sizes,)).module()
    assert_close(exported(other), Densities(model)(other))


def test_values_are_checked_in_eager_mode_only():
    model = make_model("diagonal")
    broken = torch.full((3, *model.event_shape), torch.nan).double()
    compiled = torch.compile(model.log_prob, fullgraph=True, backend="eager")
    assert compiled(broken).isnan()
    assert vmap(model.log_prob)(broken[None]).isnan()
    with pytest.raises(UserError, match="x: expected finite numbers, got NaN"):
        model.log_prob(broken)
    with pytest.raises(UserError, match="x: expected finite numbers, got NaN"):
        grad(model.log_prob)(broken)  # a transform that hides no numbers


def test_shapes_are_checked_under_vmap_too():
    model = make_model("diagonal")
    with pytest.raises(UserError, match=r"x: expected shape \(\*B, 4\), got \(3, 5\)"):
        vmap(model.log_prob)(torch.zeros(2, 3, 5))


@pytest.mark.filterwarnings("ignore:.torch.jit.trace.:DeprecationWarning")
def test_what_can_be_checked():
    def inner(x):
        seen.append(values_can_be_checked(x))
        return x.square().sum()

    x, seen = torch.ones(2, 3), []
    inner(x), grad(inner)(x), vmap(inner)(x), vmap(grad(inner))(x), vmap(vmap(inner))(x)
    grad(lambda x: vmap(inner)(x).sum())(x)
    vmap(lambda one: inner(x) + one)(x)  # not what is mapped over
    inner(x.to("meta"))
    torch.jit.trace(inner, x, check_trace=False)
    torch.compile(inner, backend="eager")(x)
    assert seen[:8] == [True, True, False, False, False, False, True, False]
    assert not any(seen[8:])
    check_finite("x", torch.full((2,), torch.inf, device="meta"))


@fuzz_settings(15)
@given(
    preset=st.sampled_from(sorted(ARCHITECTURES)),
    process=st.sampled_from(sorted(PROCESSES)),
    batch=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    size=st.integers(0, 4),
    data=st.data(),
)
def test_nested_maps_over_any_dimensions(preset, process, batch, size, data):
    densities = Densities(make_model(preset, process))
    x = draw(densities.model.event_shape, *batch, size)
    mapped = densities.forward
    for remaining in range(data.draw(st.integers(0, len(batch) - 1)), len(batch)):
        dim = data.draw(st.integers(0, remaining))
        mapped = vmap(mapped, in_dims=dim, out_dims=dim)
    assert_close(mapped(x), densities(x))
