"""The encoder of a service is one call of a traced graph, with the codes of the flow."""

import pytest
import torch

from bruno.serving.coder import Coder, traced
from bruno.serving.model import load_model
from bruno.serving.settings import ServerSettings


@torch.no_grad()
@pytest.mark.parametrize("name", ["omniglot", "omniglot-classify", "glyphs"])
def test_shipped_models_are_encoded_by_a_traced_graph(name):
    model = load_model(ServerSettings(model=name))
    assert isinstance(model._latent, torch.jit.ScriptFunction)
    generator = torch.Generator().manual_seed(0)
    elements = torch.randint(0, 256, (7, *model.format.event_shape), generator=generator).byte()
    for part in (elements, elements[:1]):
        codes = model.encode(part).codes
        expected = model.encode(part, with_densities=True).codes
        torch.testing.assert_close(codes, expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_a_graph_with_other_codes_is_not_used(model):
    class DependsOnTheNumber(Coder):
        def forward(self, x):
            return super().forward(x) + (1.0 if len(x) > 3 else 0.0)

    coder = DependsOnTheNumber(model._model.flow, model.dim)
    assert traced(coder, model._example) is coder
