"""The flows of vectors that are set from statistics of data rather than trained."""

import copy

import pytest
import torch

from bruno import RealNVP
from bruno.flows.affine import ActivationNorm, LowRankAffine
from bruno.seeding import generator_for


def batch(*shape):
    return 4 * torch.rand(*shape, generator=generator_for(0), dtype=torch.float64) - 2


def set_at_random(layer, dim):
    """Give an affine map some scale, shift and matrix."""
    generator = generator_for(3)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    if isinstance(layer, ActivationNorm):
        layer.shift.copy_(draw(dim))
        layer.log_scale.copy_(draw(dim))
        return
    matrix = draw(*layer.matrix.shape)
    whole = (matrix, torch.linalg.inv(matrix), torch.linalg.slogdet(matrix).logabsdet)
    if isinstance(layer, LowRankAffine):
        layer.span(draw(len(matrix), dim))
        layer.set(draw(dim), draw(dim).exp(), *whole)
    else:
        layer.set(draw(dim), *whole)


@pytest.mark.parametrize(
    ("preset", "dim", "rank"),
    [
        *(("diagonal", 1, None), ("diagonal", 5, None), ("affine", 1, None), ("affine", 5, None)),
        *(("affine", 1, 1), ("affine", 5, 1), ("affine", 5, 2), ("affine", 5, 5)),
    ],
)
@torch.no_grad()
def test_affine_maps(preset, dim, rank):
    flow = RealNVP((dim,), preset=preset, rank=rank).double()
    x = batch(4, dim)
    assert torch.equal(flow(x)[0], x)
    set_at_random(flow.layers.layers[0], dim)
    z, log_det = flow(x)
    back, inverse_log_det = flow.inverse(z)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-12)
    torch.testing.assert_close(inverse_log_det, -log_det)
    jacobian = torch.autograd.functional.jacobian(lambda one: flow(one)[0], x[0])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian)[1], log_det[0])
    off_diagonal = jacobian - jacobian.diag().diag()
    assert bool((off_diagonal != 0).any()) == (preset == "affine" and dim > 1)
    assert torch.equal(copy.deepcopy(flow)(x)[0], z)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("preset", ["diagonal", "affine"])
@torch.no_grad()
def test_who_changes_a_log_determinant_does_not_change_the_flow(preset, number):
    flow = RealNVP((2,), preset=preset)
    x = batch(number, 2)
    for way in (flow, flow.inverse):
        log_det = way(x)[1]
        log_det += 1
        assert torch.equal(way(x)[1], torch.zeros(number))


@pytest.mark.parametrize("rank", [None, 3])
def test_affine_maps_become_standard_on_a_batch(rank):
    flow = RealNVP((6,), preset="affine", rank=rank)
    set_at_random(flow.layers.layers[0], 6)
    x = 5 + 3 * batch(200, 6).float()
    flow.initialise(x)
    z, _ = flow(x)
    torch.testing.assert_close(z.mean(0), torch.zeros(6), rtol=0, atol=1e-5)
    torch.testing.assert_close(z.std(0), torch.ones(6), rtol=0, atol=1e-5)
