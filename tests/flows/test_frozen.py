"""Flows whose weights are computed once give the same bits."""

import pytest
import torch

from bruno import Bruno
from bruno.flows.frozen import freeze_weights


@torch.no_grad()
@pytest.mark.parametrize("name", ["glyphs", "omniglot"])
def test_frozen_flows_give_the_same_bits(name):
    model = Bruno.from_pretrained(name)
    x = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0)) * 255
    before = model.flow(x)
    freeze_weights(model.flow)
    after = model.flow(x)
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert torch.equal(
        model.flow.inverse(after[0])[0], Bruno.from_pretrained(name).decode(before[0])
    )
    assert not any(p.requires_grad for p in model.flow.parameters())
