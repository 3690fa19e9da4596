import math

import pytest
import torch

from bruno import Bruno, ExchangeableStudentT, Flow, RealNVP, UserError
from bruno.flows.affine import ActivationNorm, FullAffine
from tests.flows.architectures import batch, make_context, make_flow

SMALL = {"filters": 6, "residual_blocks": 1, "dense_units": 8, "dense_couplings": 2}


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


@torch.no_grad()
def test_initialisation_survives_constant_pixels():
    flow = RealNVP((1, 8, 8), **SMALL)
    flow.initialise(torch.full((16, 1, 8, 8), 0.5))
    z, log_det = flow(torch.full((2, 1, 8, 8), 0.5))
    assert bool(z.isfinite().all())
    assert bool(log_det.isfinite().all())


def test_black_and_white_pixels_are_valid_to_the_edge():
    flow = RealNVP((1, 4, 4), **SMALL)
    for value in (0.0, 255.999, 256.0):
        z, log_det = flow(torch.full((1, 1, 4, 4), value))
        assert bool(z.isfinite().all())
        assert bool(log_det.isfinite().all())


def test_conditioners_may_compute_in_bfloat16_without_losing_the_inverse():
    flow = make_flow("compact, 1x8x8", dtype=torch.float32)
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
        ({"event_shape": (1, 7, 8)}, r"height and width that 2 divides, got \(7, 8\)"),
        ({"event_shape": (1,)}, "D >= 2"),
        ({"event_shape": (8, 8)}, r"expected \(C, H, W\)"),
        (
            {"event_shape": (1, 8, 8), "preset": "huge"},
            "expected one of paper, conditional-paper, compact, lattice, spectral, sums, dense",
        ),
        ({"event_shape": (8,), "preset": "compact"}, "vectors of shape"),
        ({"event_shape": (8,), "context_dim": -1}, "context_dim"),
        ({"event_shape": (8,), "preset": "affine", "context_dim": 2}, "context_dim: expected 0"),
        ({"event_shape": (1, 8, 8), "preset": "diagonal"}, "is for vectors"),
        ({"event_shape": (1, 8, 8), "filters": (8, 8, 8)}, "filters: expected one number or 2"),
        (
            {"event_shape": (1, 8, 8), "filters": 0},
            "filters: expected a whole number of at least 1",
        ),
        (
            {"event_shape": (8,), "dense_units": 0},
            "dense_units: expected a whole number of at least 1, got 0",
        ),
        ({"event_shape": (8,), "dense_couplings": -1}, "dense_couplings"),
        ({"event_shape": (8,), "preset": "affine", "rank": 9}, "at most the 8 dimensions, got 9"),
        ({"event_shape": (8,), "preset": "affine", "rank": 0}, "rank: .* at least 1, got 0"),
        ({"event_shape": (8,), "preset": "affine", "rank": "2"}, "rank: expected .* got '2'"),
        ({"event_shape": (8,), "preset": "affine", "rank": True}, "rank: expected .* got True"),
        ({"event_shape": (8,), "preset": "diagonal", "rank": 2}, "rank: is no size of preset"),
        ({"event_shape": (8,), "filters": 3}, "which has dense_units, dense_couplings"),
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
    expected, _ = flow.layers[0].inner[0](x)
    torch.testing.assert_close(first.sort().values, expected.flatten(1).sort().values)


def test_the_conditional_flow_of_the_paper_has_its_sizes():
    flow = RealNVP((1, 32, 32), 2, "conditional-paper")
    couplings = [m for m in flow.modules() if type(m).__name__ == "MaskedCoupling"]
    assert len(couplings) == 3 + 3 + 3 + 3 + 4 + 6
    with pytest.raises(UserError, match=r"height and width that 4 divides, got \(6, 10\)"):
        RealNVP((1, 6, 10), 2, "conditional-paper")


def test_a_chain_of_ones_own_layers_is_a_flow_that_cannot_be_saved(tmp_path):
    flow = Flow([FullAffine(3), ActivationNorm(3)], (3,))
    model = Bruno(flow, ExchangeableStudentT(3))
    x = batch((3,), 2, 5, dtype=torch.float32)
    torch.testing.assert_close(model.decode(model.encode(x)), x)
    assert flow.is_affine
    assert flow.layers[0].is_affine
    with pytest.raises(UserError, match="built again from its preset, got a chain of 2 layers"):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()
