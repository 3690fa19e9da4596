import json

import pytest
import torch

from bruno import UserError
from bruno.data.sets import dequantise
from bruno.evaluation import exchangeability
from bruno.seeding import generator_for
from tests.evaluation.conftest import make_model


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
def test_models_are_exchangeable_to_rounding(process, dataset):
    model = make_model(process)
    x = dequantise(dataset.images[:9], generator_for(0)).double()
    result = exchangeability(model, x, 5, generator_for(1))
    assert result.log_prob == pytest.approx(model.log_prob(x).item())
    assert result.relative_spread < 1e-12
    assert result.chain_error < 1e-9 * abs(result.log_prob)
    assert (result.elements, result.permutations) == (9, 5)
    assert json.dumps(result.to_dict())


def test_context_moves_with_its_element(dataset):
    model = make_model(context_dim=1)
    with torch.no_grad():
        for parameter in model.flow.parameters():  # make the context matter
            parameter.add_(0.05)
    x = dequantise(dataset.images[:6], generator_for(0)).double()
    context = torch.linspace(-2, 2, 6).unsqueeze(1)
    assert exchangeability(model, x, 4, generator_for(1), context).relative_spread < 1e-12
    swapped = model.log_prob(x, context.flip(0))
    assert (swapped - model.log_prob(x, context)).abs().item() > 1e-6


def test_a_model_that_depends_on_the_order_is_caught(model, dataset, monkeypatch):
    x = dequantise(dataset.images[:6], generator_for(0)).double()
    monkeypatch.setattr(model, "log_prob", lambda x, _: x[0].sum())
    result = exchangeability(model, x, 5, generator_for(1))
    assert result.relative_spread > 1e-3
    assert result.chain_error > 1


def test_errors(model, dataset):
    x = dequantise(dataset.images[:4], None)
    with pytest.raises(UserError, match="permutations"):
        exchangeability(model, x, 0, generator_for(0))
    with pytest.raises(UserError, match="x: expected one set of shape"):
        exchangeability(model, x[None], 2, generator_for(0))
