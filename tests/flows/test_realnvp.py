import copy
import math
import pickle

import pytest
import torch

from bruno import ExchangeableStudentT, RealNVP, UserError
from bruno.seeding import generator_for

# Every architecture goes through the same laws; sizes are small, so that Jacobians are, too.
SMALL = {"filters": 6, "residual_blocks": 1, "dense_units": 8, "dense_couplings": 2}
ARCHITECTURES = {
    "paper": ((1, 8, 8), {"preset": "paper", **SMALL}),
    "conditional-paper": ((1, 8, 8), {"preset": "conditional-paper", **SMALL}),
    "compact": ((1, 8, 8), {"preset": "compact", **SMALL}),
    "compact, odd at a quarter": ((1, 6, 10), {"preset": "compact", **SMALL}),
    "lattice": ((1, 8, 8), {"preset": "lattice", **SMALL}),
    "spectral": ((1, 6, 8), {"preset": "spectral", "dense_units": 8, "dense_couplings": 2}),
    "spectral, colour": ((3, 4, 4), {"preset": "spectral", "dense_units": 8, "dense_couplings": 2}),
    "compact, steered": ((1, 6, 6), {"preset": "compact", "context_angles": [1], **SMALL}),
    "compact, colour": ((3, 4, 4), {"preset": "compact", **SMALL}),
    "dense, image": ((1, 8, 8), {"preset": "dense", "dense_units": 8, "dense_couplings": 3}),
    "dense, odd vector": ((5,), {"preset": "dense", "dense_units": 8, "dense_couplings": 3}),
    "dense, steered": ((15,), {"preset": "dense", "context_angles": [0], "dense_units": 8}),
}
architectures = pytest.mark.parametrize("name", ARCHITECTURES)
contexts = pytest.mark.parametrize("context_dim", [0, 3], ids=["plain", "context"])


def batch(event_shape, *shape, seed=0, dtype=torch.float64):
    generator = generator_for(seed)
    x = torch.rand(*shape, *event_shape, generator=generator, dtype=dtype)
    return 256 * x if len(event_shape) == 3 else 4 * x - 2


def make_flow(name, context_dim=0, dtype=torch.float64, perturb=True):
    """Return a flow away from its initialisation, where couplings really do something."""
    event_shape, sizes = ARCHITECTURES[name]
    if not context_dim:
        sizes = {size: value for size, value in sizes.items() if size != "context_angles"}
    with torch.random.fork_rng():
        torch.manual_seed(1)
        flow = RealNVP(event_shape, context_dim, **sizes).to(dtype)
        context = torch.randn(16, context_dim, dtype=dtype) if context_dim else None
        flow.initialise(batch(event_shape, 16, dtype=dtype), context)
        if perturb:
            with torch.no_grad():
                for parameter in flow.parameters():
                    parameter.add_(0.05 * torch.randn_like(parameter))
    return flow


def make_context(context_dim, *shape, dtype=torch.float64):
    if not context_dim:
        return None
    return torch.randn(*shape, context_dim, generator=generator_for(7), dtype=dtype)


@architectures
@contexts
@torch.no_grad()
def test_round_trip_and_opposite_log_determinants(name, context_dim):
    flow = make_flow(name, context_dim)
    x, context = batch(flow.event_shape, 2, 3), make_context(context_dim, 2, 3)
    z, log_det = flow(x, context)
    assert z.shape == (2, 3, flow.dim)
    assert log_det.shape == (2, 3)
    back, inverse_log_det = flow.inverse(z, context)
    scale = 256 if len(flow.event_shape) == 3 else 1
    torch.testing.assert_close(back / scale, x / scale, rtol=0, atol=1e-10)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=1e-10, atol=1e-10)
    again, _ = flow(back, context)
    torch.testing.assert_close(again, z, rtol=0, atol=1e-9)


@architectures
@contexts
@torch.no_grad()
def test_round_trip_in_single_precision(name, context_dim):
    flow = make_flow(name, context_dim, torch.float32)
    x = batch(flow.event_shape, 8, dtype=torch.float32)
    context = make_context(context_dim, 8, dtype=torch.float32)
    back, _ = flow.inverse(flow(x, context)[0], context)
    scale = 256 if len(flow.event_shape) == 3 else 1
    # Random weights are stiffer than trained ones, for which 1e-4 holds.
    torch.testing.assert_close(back / scale, x / scale, rtol=0, atol=2e-3)


@architectures
@contexts
def test_log_determinant_is_that_of_the_jacobian(name, context_dim):
    flow = make_flow(name, context_dim)
    x, context = batch(flow.event_shape), make_context(context_dim)
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


@architectures
@contexts
def test_gradients_reach_every_parameter(name, context_dim):
    flow = make_flow(name, context_dim)
    z, log_det = flow(batch(flow.event_shape, 4), make_context(context_dim, 4))
    (z.square().sum() - log_det.sum()).backward()
    for parameter_name, parameter in flow.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert bool((parameter.grad != 0).any()), parameter_name


@architectures
@torch.no_grad()
def test_context_changes_nothing_at_the_start_and_something_later(name):
    fresh = make_flow(name, 3, perturb=False)
    x = batch(fresh.event_shape, 4)
    a, b = make_context(3, 4), -make_context(3, 4)
    for start in fresh.context_angles:  # latent dimensions turn with these from the start
        b[:, start : start + 2] = a[:, start : start + 2]
    for left, right in zip(fresh(x, a), fresh(x, b), strict=True):
        torch.testing.assert_close(left, right, rtol=0, atol=0)
    moved = make_flow(name, 3)
    assert not torch.allclose(moved(x, a)[0], moved(x, b)[0])
    assert not torch.allclose(moved(x, a)[1], moved(x, b)[1])


@torch.no_grad()
def test_couplings_start_as_the_identity():
    """The paper's flow is then nothing but the logit of the pixels, in another order."""
    flow = RealNVP((1, 8, 8), preset="paper", **SMALL).double()
    x = batch(flow.event_shape, 2)
    y = 1e-5 / 2 + (1 - 1e-5) * x / 256
    z, log_det = flow(x)
    torch.testing.assert_close(
        z.sort(-1).values, torch.logit(y).flatten(1).sort(-1).values, rtol=1e-12, atol=1e-12
    )
    expected = (math.log((1 - 1e-5) / 256) - y.log() - (1 - y).log()).flatten(1).sum(1)
    torch.testing.assert_close(log_det, expected)


def test_paper_preset_has_the_published_number_of_parameters():
    flow, process = RealNVP((1, 28, 28), preset="paper"), ExchangeableStudentT(784)
    trainable = [p for module in (flow, process) for p in module.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trainable) == 14_746_718


@architectures
@torch.no_grad()
def test_initialisation_makes_every_normalised_activation_standard(name):
    """Also deep inside the networks: each layer sees the normalised output of the one before."""
    event_shape, sizes = ARCHITECTURES[name]
    context_dim = 2 if "context_angles" in sizes else 0
    flow = RealNVP(event_shape, context_dim, **{**sizes, "context_angles": [0][:context_dim]})
    flow.double()
    x, context = batch(event_shape, 64), make_context(context_dim, 64)
    flow.initialise(x, context)
    seen = []

    def look(_module, _inputs, output):
        per_channel = (
            (output[0] if isinstance(output, tuple) else output).transpose(0, 1).flatten(1)
        )
        seen.append((per_channel.mean(1), per_channel.std(1)))

    for module in flow.modules():
        if hasattr(module, "parametrizations") or type(module).__name__ == "ActivationNorm":
            module.register_forward_hook(look)
    flow(x, context)
    assert len(seen) > 2
    for mean, deviation in seen:
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-6, rtol=0)
        # A unit that hardly varies on this batch is not blown up.
        assert float(deviation.max()) <= 1 + 1e-6
        assert float((deviation - 1).abs().median()) <= 1e-6


@torch.no_grad()
def test_initialisation_survives_constant_pixels():
    flow = RealNVP((1, 8, 8), **SMALL)
    flow.initialise(torch.full((16, 1, 8, 8), 0.5))
    z, log_det = flow(torch.full((2, 1, 8, 8), 0.5))
    assert bool(z.isfinite().all())
    assert bool(log_det.isfinite().all())


@architectures
def test_config_builds_the_same_flow_again(name):
    flow = make_flow(name)
    copy = RealNVP(**flow.config).double()
    copy.load_state_dict(flow.state_dict())
    x = batch(flow.event_shape, 2)
    assert torch.equal(copy(x)[0], flow(x)[0])
    assert "RealNVP" in repr(flow)


@architectures
def test_copied_and_pickled(name):
    flow = make_flow(name)
    next(flow.parameters()).requires_grad_(False)
    x = batch(flow.event_shape, 2)
    state = torch.get_rng_state()
    copies = copy.deepcopy(flow.eval()), pickle.loads(pickle.dumps(flow))  # noqa: S301
    assert torch.equal(torch.get_rng_state(), state)
    for other in copies:
        assert torch.equal(other(x)[0], flow(x)[0])
        assert not other.training
        for ours, theirs in zip(flow.parameters(), other.parameters(), strict=True):
            assert ours.requires_grad == theirs.requires_grad
            assert ours.data_ptr() != theirs.data_ptr()


def test_black_and_white_pixels_are_valid_to_the_edge():
    flow = RealNVP((1, 4, 4), **SMALL)
    for value in (0.0, 255.999, 256.0):
        z, log_det = flow(torch.full((1, 1, 4, 4), value))
        assert bool(z.isfinite().all())
        assert bool(log_det.isfinite().all())


def test_conditioners_may_compute_in_bfloat16_without_losing_the_inverse():
    flow = make_flow("compact", dtype=torch.float32)
    x = batch(flow.event_shape, 8, dtype=torch.float32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        z, log_det = flow(x)
        back, inverse_log_det = flow.inverse(z)
    assert z.dtype == log_det.dtype == torch.float32
    # Rounding of the inverse can move an input of a network over a bfloat16 boundary.
    torch.testing.assert_close(back / 256, x / 256, rtol=0, atol=0.02)
    torch.testing.assert_close(inverse_log_det, -log_det, rtol=0.01, atol=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"event_shape": (1, 7, 8)}, "even height and width"),
        ({"event_shape": (1,)}, "D >= 2"),
        ({"event_shape": (8, 8)}, r"expected \(C, H, W\)"),
        (
            {"event_shape": (1, 8, 8), "preset": "huge"},
            "expected one of paper, conditional-paper, compact, lattice, spectral, dense",
        ),
        ({"event_shape": (8,), "preset": "compact"}, "vectors of shape"),
        ({"event_shape": (8,), "context_dim": -1}, "context_dim"),
        ({"event_shape": (8,), "preset": "linear", "context_dim": 2}, "context_dim: expected 0"),
        ({"event_shape": (1, 8, 8), "preset": "affine"}, "is for vectors"),
        ({"event_shape": (1, 8, 8), "filters": (8, 8, 8)}, "filters: expected one number or 2"),
        ({"event_shape": (1, 8, 8), "filters": 0}, "filters: expected positive"),
        ({"event_shape": (8,), "dense_units": 0}, "dense_units: expected at least 1"),
        ({"event_shape": (8,), "dense_couplings": -1}, "dense_couplings"),
        ({"event_shape": (8,), "preset": "linear", "rank": 9}, "rank: expected none.* to 8, got 9"),
        ({"event_shape": (8,), "preset": "linear", "rank": 0}, "rank: expected none"),
        ({"event_shape": (8,), "preset": "linear", "rank": "2"}, "rank: expected none.* got '2'"),
        ({"event_shape": (8,), "preset": "linear", "rank": True}, "rank: expected none.* got True"),
        ({"event_shape": (8,), "preset": "affine", "rank": 2}, "with preset 'linear'"),
    ],
)
def test_bad_architectures_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        RealNVP(**arguments)


@pytest.mark.parametrize(
    ("x", "context", "message"),
    [
        (torch.zeros(2, 1, 8, 8, dtype=torch.uint8), None, "floating-point.*dequantise"),
        ([[0.0]], None, "floating-point tensor, got list"),
        (torch.zeros(2, 8, 8), None, r"x: expected shape \(\*B, 1, 8, 8\), got \(2, 8, 8\)"),
        (torch.full((1, 1, 8, 8), torch.nan), None, "x: expected finite"),
        (torch.full((1, 1, 8, 8), torch.inf), None, "x: expected finite"),
        (torch.full((1, 1, 8, 8), 300.0), None, r"\[0, 256\].*from 300 to 300"),
        (torch.full((1, 1, 8, 8), -0.1), None, r"\[0, 256\]"),
        (torch.zeros(2, 1, 8, 8), torch.zeros(2, 3), "takes no context"),
    ],
)
def test_bad_images_are_named(x, context, message):
    with pytest.raises(UserError, match=message):
        RealNVP((1, 8, 8), **SMALL)(x, context)


@pytest.mark.parametrize(
    ("context", "message"),
    [
        (None, r"context: this model needs one of shape \(2, 3\), got none"),
        (torch.zeros(2, 4), r"context: expected a floating-point tensor of shape \(2, 3\)"),
        (torch.zeros(2, 3, dtype=torch.int64), "context: expected a floating-point"),
        (torch.full((2, 3), torch.nan), "context: expected finite"),
    ],
)
def test_bad_context_is_named(context, message):
    with pytest.raises(UserError, match=message):
        RealNVP((1, 8, 8), 3, **SMALL)(torch.zeros(2, 1, 8, 8), context)


def test_bad_latents_are_named():
    flow = RealNVP((1, 8, 8), **SMALL)
    with pytest.raises(UserError, match=r"z: expected shape \(\*B, 64\)"):
        flow.inverse(torch.zeros(2, 63))
    with pytest.raises(UserError, match="z: expected finite"):
        flow.inverse(torch.full((2, 64), torch.nan))


def test_scales_are_not_set_from_bad_batches():
    flow = RealNVP((3,), dense_units=4)
    before = [p.clone() for p in flow.parameters()]
    for x, message in (
        (torch.zeros(1, 3), "at least 2"),
        (torch.full((4, 3), torch.nan), "finite"),
    ):
        with pytest.raises(UserError, match=message):
            flow.initialise(x)
    assert all(torch.equal(a, b) for a, b in zip(before, flow.parameters(), strict=True))
    with pytest.raises(UserError, match="event_shape"):
        RealNVP(4)


def test_the_conditional_flow_of_the_paper_starts_as_the_identity():
    """Up to its order of dimensions, and behind the logit, whatever the context."""
    flow = RealNVP((1, 8, 8), 2, "conditional-paper", **SMALL).double()
    x = batch((1, 8, 8), 3)
    contexts = make_context(2, 2, 3)
    (first, _), (second, _) = (flow(x, context) for context in contexts)
    torch.testing.assert_close(first, second)
    expected, _ = flow.layers.layers[0](x)
    torch.testing.assert_close(first.sort().values, expected.flatten(1).sort().values)


def test_the_conditional_flow_of_the_paper_has_its_sizes():
    flow = RealNVP((1, 32, 32), 2, "conditional-paper")
    couplings = [m for m in flow.modules() if type(m).__name__ == "MaskedCoupling"]
    assert len(couplings) == 3 + 3 + 3 + 3 + 4 + 6
    with pytest.raises(UserError, match=r"height and width that 4 divides, got \(6, 10\)"):
        RealNVP((1, 6, 10), 2, "conditional-paper")
