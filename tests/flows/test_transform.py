import torch
from torch.distributions import Independent, Normal, TransformedDistribution

from bruno import Bruno, ExchangeableGaussian
from bruno.flows import FlowTransform
from tests.flows.architectures import batch, make_flow


@torch.no_grad()
def test_a_transformed_distribution_has_the_density_of_the_model():
    for name in ("compact, 1x8x8", "dense, 5"):
        flow = make_flow(name)
        zeros, ones = torch.zeros(flow.dim).double(), torch.ones(flow.dim).double()
        density = TransformedDistribution(
            Independent(Normal(zeros, ones), 1), [FlowTransform(flow).inv]
        )
        model = Bruno(flow, ExchangeableGaussian.from_parameters(ones, 0.5))
        x = batch(flow.event_shape, 3)
        assert density.event_shape == flow.event_shape
        torch.testing.assert_close(density.log_prob(x), model.prior().log_prob(x))
        assert density.sample((2,)).shape == (2, *flow.event_shape)


@torch.no_grad()
def test_both_directions_and_the_log_determinant():
    flow = make_flow("compact, 1x8x8")
    transform = FlowTransform(flow)
    x = batch(flow.event_shape, 2)
    z, log_det = transform.call_and_ladj(x)
    assert torch.equal(transform(x), z)
    torch.testing.assert_close(transform.inv(z), x)
    assert torch.equal(transform.log_abs_det_jacobian(x, z), log_det)
    assert transform.forward_shape((2, 1, 8, 8)) == (2, 64)
    assert transform.inverse_shape((2, 64)) == (2, 1, 8, 8)
    assert bool(transform.domain.check(x).all())
    assert bool(transform.codomain.check(z).all())
