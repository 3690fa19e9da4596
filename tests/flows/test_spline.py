import pytest
import torch

from bruno.flows.spline import inverse_spline, spline
from bruno.seeding import generator_for

BOUND, BINS = 3.0, 5


def parameters(*shape, scale=1.0):
    generator = generator_for(0)
    return scale * torch.randn(*shape, 3 * BINS - 1, generator=generator, dtype=torch.float64)


def test_a_spline_of_zeros_is_the_identity():
    x = torch.linspace(-4, 4, 101, dtype=torch.float64)
    y, log_slope = spline(torch.zeros(101, 3 * BINS - 1, dtype=torch.float64), x, BOUND)
    torch.testing.assert_close(y, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-12)


def test_a_spline_is_smooth_and_increases_from_bound_to_bound():
    x = torch.linspace(-BOUND, BOUND, 20001, dtype=torch.float64)
    y, log_slope = spline(parameters(1).expand(len(x), -1), x, BOUND)
    assert bool((y.diff() > 0).all())
    assert float(y[0]) == -BOUND
    assert float(y[-1]) == BOUND
    numeric = (y[2:] - y[:-2]) / (x[2:] - x[:-2])
    # Slopes are continuous at the knots, too, and 1 at the ends.
    torch.testing.assert_close(log_slope[1:-1].exp(), numeric, rtol=1e-2, atol=1e-2)
    assert float(log_slope[1]) == pytest.approx(0.0, abs=0.1)


def test_values_outside_pass_unchanged():
    x = torch.tensor([-100.0, -3.0, 3.0, 1e6], dtype=torch.float64)
    for way in (spline, inverse_spline):
        y, log_slope = way(parameters(4), x, BOUND)
        assert torch.equal(y, x)
        assert torch.equal(log_slope, torch.zeros_like(x))


def test_the_inverse_is_exact():
    raw = parameters(1000)
    x = 4 * torch.randn(1000, generator=generator_for(1), dtype=torch.float64)
    y, log_slope = spline(raw, x, BOUND)
    back, inverse_log_slope = inverse_spline(raw, y, BOUND)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-11)
    torch.testing.assert_close(inverse_log_slope, -log_slope, rtol=0, atol=1e-9)


def test_in_single_precision_the_preimage_has_the_right_image():
    """Where a spline is flat, rounding of an image moves its preimage far."""
    raw = parameters(1000).float()
    x = 4 * torch.randn(1000, generator=generator_for(1))
    y, _ = spline(raw, x, BOUND)
    again, _ = spline(raw, inverse_spline(raw, y, BOUND)[0], BOUND)
    torch.testing.assert_close(again, y, rtol=0, atol=1e-5)


def test_gradients_are_finite_inside_at_the_ends_and_outside():
    raw = parameters(5).requires_grad_()
    x = torch.tensor([-9.0, -BOUND, 0.0, BOUND, 9.0], dtype=torch.float64, requires_grad=True)
    y, log_slope = spline(raw, x, BOUND)
    (y.sum() + log_slope.sum()).backward()
    assert bool(raw.grad.isfinite().all())
    assert bool(x.grad.isfinite().all())
