import math

import pytest
import torch

from bruno import RealNVP, UserError
from bruno.data import ContextFeature, encode_context
from bruno.flows.context import ContextRotation
from bruno.seeding import generator_for


def azimuth(*degrees):
    return encode_context(
        [ContextFeature("azimuth", is_angle=True)], {"azimuth": torch.tensor(degrees)}
    )


@torch.no_grad()
def test_pairs_turn_by_multiples_of_the_angle():
    rotation = ContextRotation(13, [0])
    one, two = torch.zeros(13), torch.zeros(13)
    one[::2], two[1::2] = 1.0, 1.0
    z, log_det = rotation.inverse(torch.stack([one, two]), azimuth(30.0, 30.0))
    turns = 30.0 * torch.tensor([0, 1, 2, 3, 4, 0])
    torch.testing.assert_close(z[0, 0:12:2], turns.deg2rad().cos())
    torch.testing.assert_close(z[0, 1:12:2], turns.deg2rad().sin())
    torch.testing.assert_close(z[1, 0:12:2], -turns.deg2rad().sin())
    assert z[0, 12] == 1
    assert log_det.tolist() == [0, 0]


@torch.no_grad()
def test_turns_add_up_and_only_the_direction_counts():
    rotation = ContextRotation(10, [0])
    x = torch.randn(1, 10, generator=generator_for(2), dtype=torch.float64)
    twice = rotation(rotation(x, azimuth(50.0).double())[0], azimuth(80.0).double())[0]
    once = rotation(x, 3 * azimuth(130.0).double())[0]
    torch.testing.assert_close(twice, once, rtol=0, atol=1e-6)


@torch.no_grad()
def test_every_angle_turns_pairs_of_its_own_and_other_labels_reach_the_couplings():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP((30,), 5, context_angles=[1, 3], dense_units=8, dense_couplings=2)
        for parameter in flow.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    x = torch.randn(1, 30, generator=generator_for(3))
    context = torch.tensor([[0.5, 0.0, 1.0, 0.0, 1.0]])
    z, log_det = flow(x, context)

    def change(entries):
        other = context.clone()
        other[:, entries] = torch.tensor([1.0, 0.0])[: len(entries)]
        moved, moved_log_det = flow(x, other)
        return (moved - z).abs().squeeze(0) > 1e-4, moved_log_det != log_det

    first, volume = change([1, 2])
    assert first[2:10].any()
    assert not first[10:20].any()
    assert not volume
    second, volume = change([3, 4])
    assert second[12:20].any()
    assert not second[:10].any()
    assert not volume
    both, volume = change([0])
    assert both.any()
    assert volume


def test_it_is_built_again_from_its_configuration():
    flow = RealNVP((1, 6, 6), 5, context_angles=[3, 1])
    assert RealNVP(**flow.config).config == flow.config
    assert flow.config["context_angles"] == [3, 1]


def test_every_angle_needs_a_pair_of_its_own():
    RealNVP((14,), 4, context_angles=[0, 2])
    with pytest.raises(UserError, match="context_angles: expected at least 14 dimensions"):
        RealNVP((13,), 4, context_angles=[0, 2])


@pytest.mark.parametrize("angles", [[1], [-1], [0, 1], [0, 0], [2]])
def test_angles_that_are_not_there_are_named(angles):
    with pytest.raises(
        UserError, match=r"context_angles: expected (positions of the sines|a whole)"
    ):
        RealNVP((8,), 2, context_angles=angles)


def test_a_model_keeps_objects_that_turn_apart_from_the_angle():
    """One object whose two coordinates turn with the angle has one latent vector."""
    rotation = ContextRotation(4, [0])
    angles = torch.arange(0.0, 360.0, 45.0)
    radians = angles * math.pi / 180
    still = torch.ones_like(radians)
    views = torch.stack([still, 2 * still, 3 * radians.cos(), 3 * radians.sin()], 1)
    z, _ = rotation(views, azimuth(*angles.tolist()))
    torch.testing.assert_close(z, z[:1].expand_as(z), rtol=0, atol=1e-5)


@torch.no_grad()
def test_with_sums_of_blocks_only_the_code_turns_and_networks_see_the_angle():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP((1, 8, 8), 2, "sums", context_angles=[0], dense_units=8, pixel_units=8)
        x = torch.randint(0, 256, (200, 1, 8, 8)) + torch.rand(200, 1, 8, 8)
        flow.initialise(x, azimuth(*range(200)))
        for parameter in flow.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    x, context = x[:2], azimuth(40.0, 250.0)
    z, log_det = flow(x, context)
    back, inverse_log_det = flow.inverse(z, context)
    assert torch.equal(back.floor(), x.floor())
    torch.testing.assert_close(inverse_log_det, -log_det, atol=1e-3, rtol=1e-5)
    other = flow(x, azimuth(130.0, 10.0))[0]
    assert bool((z - other)[:, flow.code_dim :].abs().max() > 1e-6)  # through the networks
    assert bool((z - other)[:, : flow.code_dim].abs().max() > 0.1)
