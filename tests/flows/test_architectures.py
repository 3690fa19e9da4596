"""Every registered architecture keeps the same laws."""

import copy
import pickle

import pytest
import torch

from bruno import RealNVP
from tests.flows.architectures import CASES, batch, make_context, make_flow, small_sizes

cases = pytest.mark.parametrize("name", CASES)
learnt_cases = pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case[-1] != "affine"]
)
conditional_cases = pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if case[1]]
)


@cases
@torch.no_grad()
def test_round_trip_and_opposite_log_determinants(name):
    flow = make_flow(name)
    x, context = batch(flow.event_shape, 2, 3), make_context(flow.context_dim, 2, 3)
    z, log_det = flow(x, context)
    assert z.shape == (2, 3, flow.dim)
    assert log_det.shape == (2, 3)
    back, inverse_log_det = flow.inverse(z, context)
    scale = 256 if len(flow.event_shape) == 3 else 1
    torch.testing.assert_close(back / scale, x / scale, rtol=0, atol=1e-10)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-10, atol=1e-10)
    again, _ = flow(back, context)
    torch.testing.assert_close(again, z, rtol=0, atol=1e-9)


@cases
@torch.no_grad()
def test_round_trip_in_single_precision(name):
    flow = make_flow(name, torch.float32)
    x = batch(flow.event_shape, 8, dtype=torch.float32)
    context = make_context(flow.context_dim, 8, dtype=torch.float32)
    back, _ = flow.inverse(flow(x, context)[0], context)
    scale = 256 if len(flow.event_shape) == 3 else 1
    # Random weights are stiffer than trained ones, for which 1e-4 holds.
    torch.testing.assert_close(back / scale, x / scale, rtol=0, atol=2e-3)


@cases
def test_log_determinant_is_that_of_the_jacobian(name):
    flow = make_flow(name)
    x, context = batch(flow.event_shape), make_context(flow.context_dim)
    jacobian = torch.autograd.functional.jacobian(
        lambda v: flow(v.view(flow.event_shape), context)[0], x.flatten()
    )
    z, log_det = flow(x, context)
    expected = torch.linalg.slogdet(jacobian).logabsdet
    assert log_det.item() == pytest.approx(float(expected), abs=1e-8)
    inverse_jacobian = torch.autograd.functional.jacobian(
        lambda v: flow.inverse(v, context)[0].flatten(), z.detach()
    )
    expected = torch.linalg.slogdet(inverse_jacobian).logabsdet
    assert flow.inverse(z, context)[1].item() == pytest.approx(float(expected), abs=1e-8)


@learnt_cases
def test_gradients_reach_every_parameter(name):
    flow = make_flow(name)
    z, log_det = flow(batch(flow.event_shape, 4), make_context(flow.context_dim, 4))
    (z.square().sum() - log_det.sum()).backward()
    assert list(flow.parameters())
    for parameter_name, parameter in flow.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool((parameter.grad != 0).any()), parameter_name


@conditional_cases
@torch.no_grad()
def test_context_changes_nothing_at_the_start_and_something_later(name):
    fresh = make_flow(name, perturb=False)
    x = batch(fresh.event_shape, 4)
    a = make_context(fresh.context_dim, 4)
    b = -a
    for start in fresh.context_angles:  # latent dimensions rotate with these from the start
        b[:, start : start + 2] = a[:, start : start + 2]
    for left, right in zip(fresh(x, a), fresh(x, b), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    moved = make_flow(name)
    assert not torch.allclose(moved(x, a)[0], moved(x, -a)[0])
    if len(fresh.context_angles) * 2 < fresh.context_dim:
        assert not torch.allclose(moved(x, a)[1], moved(x, -a)[1])


@cases
@torch.no_grad()
def test_initialisation_makes_every_normalised_activation_standard(name):
    """Also deep inside the networks: each layer sees the normalised output of the one before."""
    event_shape, context_dim, angles, preset = CASES[name]
    flow = RealNVP(event_shape, context_dim, preset, context_angles=angles, **small_sizes(preset))
    flow.double()
    x, context = batch(event_shape, 64), make_context(context_dim, 64)
    flow.initialise(x, context)
    seen = []

    def look(_module, _inputs, output):
        per_channel = (
            (output[0] if isinstance(output, tuple) else output).transpose(0, 1).flatten(1)
        )
        seen.append((per_channel.mean(1), per_channel.std(1)))

    normalising = {"ActivationNorm", "FullAffine", "LowRankAffine"}
    for module in flow.modules():
        if hasattr(module, "parametrizations") or type(module).__name__ in normalising:
            module.register_forward_hook(look)
    flow(x, context)
    assert seen
    for mean, std in seen:
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-6, rtol=0)
        # A unit that is constant on this batch keeps a finite scale.
        assert float(std.max()) <= 1 + 1e-6
        assert float((std - 1).abs().median()) <= 1e-6


@cases
def test_config_builds_the_same_flow_again(name):
    flow = make_flow(name)
    other = RealNVP(**flow.config).double()
    other.load_state_dict(flow.state_dict())
    x, context = batch(flow.event_shape, 2), make_context(flow.context_dim, 2)
    assert torch.equal(other(x, context)[0], flow(x, context)[0])
    assert other.config == flow.config
    assert "RealNVP" in repr(flow)


@cases
def test_copied_and_pickled(name):
    flow = make_flow(name)
    for parameter in list(flow.parameters())[:1]:
        parameter.requires_grad_(False)
    x, context = batch(flow.event_shape, 2), make_context(flow.context_dim, 2)
    state = torch.get_rng_state()
    copies = copy.deepcopy(flow.eval()), pickle.loads(pickle.dumps(flow))  # noqa: S301
    assert torch.equal(torch.get_rng_state(), state)
    for other in copies:
        assert torch.equal(other(x, context)[0], flow(x, context)[0])
        assert not other.training
        for ours, theirs in zip(flow.parameters(), other.parameters(), strict=True):
            assert ours.requires_grad == theirs.requires_grad
            assert ours.data_ptr() != theirs.data_ptr()
