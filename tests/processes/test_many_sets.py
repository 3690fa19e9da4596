"""Every query against every set at once: what classifiers score with."""

import pytest
import torch

from bruno import Evidence
from tests.processes.families import draw, family


@family
@torch.no_grad()
def test_every_query_against_every_set_equals_one_by_one(make, monkeypatch):
    process = make(8, 0.95)
    sets, queries = draw(process, 5, 3), 3 + draw(process, 7, seed=1)
    evidence = Evidence.of(sets)
    expected = torch.stack([process.predictive(evidence[k]).log_prob(queries) for k in range(5)], 1)
    torch.testing.assert_close(process.log_prob_given(queries, evidence), expected)
    monkeypatch.setattr("bruno.chunks.CACHE_ELEMENTS", 1)
    torch.testing.assert_close(process.log_prob_given(queries, evidence), expected)
    assert process.log_prob_given(queries[:0], evidence).shape == (0, 5)
    assert process.log_prob_given(queries, Evidence.empty(8, (0,))).shape == (7, 0)


@family
@pytest.mark.parametrize("distance", [1e4, 1e9])
def test_sets_and_queries_far_away_cost_no_digits(make, distance, monkeypatch):
    monkeypatch.setattr("bruno.chunks.MEMORY_ELEMENTS", 16)
    process = make(4, 0.9)
    away = distance * torch.tensor([0.0, 0.0, 0.0, 1.0, -1.0]).double().view(5, 1, 1)
    sets = (draw(process, 5, 500) + away).requires_grad_()
    queries = sets[:, 0].detach()
    given = process.log_prob_given(queries, Evidence.of(sets))
    evidence = Evidence.of(sets)
    looped = torch.stack([process.predictive(evidence[k]).log_prob(queries) for k in range(5)], 1)
    torch.testing.assert_close(given, looped, rtol=1e-9, atol=1e-7)
    gradients = [torch.autograd.grad(part.diagonal().sum(), sets)[0] for part in (given, looped)]
    torch.testing.assert_close(*gradients, rtol=1e-6, atol=1e-9)


@family
def test_gradients_through_every_query_against_every_set(make, monkeypatch):
    monkeypatch.setattr("bruno.chunks.CACHE_ELEMENTS", 32)
    process = make(4, 0.6)
    sets = draw(process, 3, 2).requires_grad_()
    queries = draw(process, 5, seed=1).requires_grad_()
    wanted = [sets, queries, *process.parameters()]
    given = process.log_prob_given(queries, Evidence.of(sets)).square().sum()
    evidence = Evidence.of(sets)
    looped = sum(process.predictive(evidence[k]).log_prob(queries).square().sum() for k in range(3))
    for a, b in zip(
        torch.autograd.grad(given, wanted), torch.autograd.grad(looped, wanted), strict=True
    ):
        torch.testing.assert_close(a, b)
        assert bool((a != 0).any())
