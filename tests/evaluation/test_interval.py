import json
import math

import pytest
import torch

from bruno import UserError
from bruno.evaluation import Estimate, estimate


def test_independent_values_give_the_textbook_interval():
    values = torch.randn(50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = estimate(values)
    assert result.mean == pytest.approx(float(values.mean()))
    assert result.half_width == pytest.approx(1.959964 * float(values.std()) / math.sqrt(50))
    assert result.count == 50


def test_clusters_of_one_size_give_the_interval_of_their_means():
    values = torch.randn(8, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    clusters = torch.tensor([9, 3, 4, 7, 100, 5, 6, 8]).repeat_interleave(5)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    result = estimate(values.flatten()[order], clusters[order])
    from_means = estimate(values.mean(1))
    assert result.mean == pytest.approx(from_means.mean)
    assert result.half_width == pytest.approx(from_means.half_width)
    assert result.count == 40


def test_copies_within_a_cluster_add_no_certainty():
    values = torch.tensor([1.0, 4.0, 2.0])
    copied = estimate(values.repeat(100), torch.arange(3).repeat(100))
    assert copied.half_width == pytest.approx(estimate(values).half_width)


def test_intervals_cover_the_truth_in_95_percent():
    generator = torch.Generator().manual_seed(5)
    hits = 0
    for _ in range(400):
        shared = torch.randn(40, 1, generator=generator)
        values = shared + torch.randn(40, 5, generator=generator)
        result = estimate(values.flatten(), torch.arange(40).repeat_interleave(5))
        hits += abs(result.mean) < result.half_width
    assert 0.91 < hits / 400 < 0.98


def test_one_cluster_says_nothing_about_the_spread_and_json_can_hold_it():
    result = estimate(torch.tensor([1.0, 2.0]), torch.zeros(2, dtype=torch.int64))
    assert result.half_width == math.inf
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False))["half_width"] is None


def test_text_and_units():
    assert str(Estimate(98.312, 0.123, 100)) == "98.31 ± 0.12"
    assert Estimate(2.0, 0.5, 4).scaled(-3) == Estimate(-6.0, 1.5, 4)


def test_errors():
    with pytest.raises(UserError, match="values: expected shape"):
        estimate(torch.zeros(0))
    with pytest.raises(UserError, match="clusters: expected one per value"):
        estimate(torch.zeros(3), torch.zeros(2))
