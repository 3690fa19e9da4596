"""Evidence by key is the same for every partition of a corpus."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bruno import Evidence, ExchangeableGaussian, UserError
from bruno.jobs import classify_table, evidence_of_table, forget_evidence, merge_evidence
from bruno.jobs.tables import evidence_in
from bruno.seeding import generator_for

DIM = 3


def corpus(rows=200, keys=7, seed=0):
    generator = generator_for(seed)
    z = 100 + torch.randn(rows, DIM, generator=generator, dtype=torch.float64)
    labels = torch.randint(keys, (rows,), generator=generator)
    return pd.DataFrame({"key": [f"k{label}" for label in labels], "vector": [*z.numpy()]})


def assert_same(found, expected, relative=1e-9):
    assert found["key"].tolist() == expected["key"].tolist()
    assert found["count"].tolist() == expected["count"].tolist()
    for name in ("mean", "scatter"):
        pair = (np.stack([*table[name]]) for table in (found, expected))
        np.testing.assert_allclose(*pair, rtol=relative, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 199), max_size=12), st.randoms(use_true_random=False))
def test_any_partition_in_any_order_gives_the_same(cuts, random):
    table = corpus()
    borders = [0, *sorted(cuts), len(table)]
    parts = [evidence_of_table(table.iloc[a:b]) for a, b in pairwise(borders)]
    random.shuffle(parts)
    assert_same(merge_evidence(*parts), evidence_of_table(table))


def test_it_is_the_evidence_of_the_elements():
    table = corpus()
    found = evidence_of_table(table).set_index("key")
    for key, group in table.groupby("key"):
        expected = Evidence.of(torch.from_numpy(np.stack([*group["vector"]])))
        assert found["count"][key] == expected.count
        np.testing.assert_allclose(found["mean"][key], expected.mean, rtol=1e-12)
        np.testing.assert_allclose(found["scatter"][key], expected.scatter, rtol=1e-9)


def test_a_window_slides():
    days = [corpus(seed=seed, keys=4) for seed in range(3)]
    first, *window = map(evidence_of_table, days)
    whole = merge_evidence(first, *window)
    assert_same(forget_evidence(whole, first), merge_evidence(*window), 1e-7)
    alone = pd.DataFrame({"key": ["other"], "vector": [[1.0, 2.0, 3.0]]})
    seen = evidence_of_table(alone)
    assert "other" not in forget_evidence(merge_evidence(whole, seen), seen)["key"].tolist()
    with pytest.raises(UserError, match="forget: expected keys of the evidence, got key 'other'"):
        forget_evidence(whole, seen)
    far = seen.assign(key="k1", mean=[np.full(DIM, 1e6)])
    with pytest.raises(UserError, match=r"forget: expected elements that are .*\(key 'k1'\)"):
        forget_evidence(whole, far)


def test_elements_get_the_most_probable_key():
    process = ExchangeableGaussian.from_parameters(torch.ones(DIM), covariance=0.9, loc=100.0)
    table = corpus()
    evidence = evidence_of_table(table)
    found = classify_table(table.head(20), evidence, process)
    z = torch.from_numpy(np.stack([*table["vector"].head(20)]))
    log_prob = process.log_prob_given(z, evidence_in(evidence)).detach()
    best = log_prob.argmax(1).tolist()
    assert found["predicted"].tolist() == [evidence["key"][index] for index in best]
    prior = process.log_prob_given(z, Evidence.empty(DIM, (1,)))[:, 0]
    np.testing.assert_allclose(found["log_ratio"], (log_prob.amax(1) - prior).detach(), rtol=1e-9)
    np.testing.assert_allclose(found["probability"], log_prob.softmax(1).amax(1), rtol=1e-9)
    assert "vector" not in found
    assert not len(classify_table(table.head(0), evidence, process))


def test_nothing_is_an_empty_table():
    assert not len(merge_evidence())
    assert not len(evidence_of_table(corpus().head(0)))
    table = evidence_of_table(corpus())
    assert_same(merge_evidence(merge_evidence(), table), table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="key"), "column: expected one called key, got vector"),
        (lambda t: t.assign(key=[None, *t["key"][1:]]), "key: expected a key in every row, got"),
        (
            lambda t: t.assign(vector=[np.full(DIM, np.nan), *t["vector"][1:]]),
            "vector: expected finite numbers, got NaN or infinity for key 'k",
        ),
        (
            lambda t: t.assign(vector=[np.zeros(2), *t["vector"][1:]]),
            r"vector: expected vectors of one dimension \(3\), got others for key 'k",
        ),
    ],
)
def test_mistakes_are_named_by_key(change, message):
    with pytest.raises(UserError, match=message):
        evidence_of_table(change(corpus()))


def test_evidence_of_other_models_is_refused():
    table = evidence_of_table(corpus())
    with pytest.raises(UserError, match="evidence: expected columns key, count, mean, scatter"):
        merge_evidence(table.drop(columns="mean"))
    other = table.assign(mean=[np.zeros(2)] * len(table), scatter=[np.zeros(2)] * len(table))
    with pytest.raises(UserError, match="evidence: expected one dimension, got 2, 3"):
        merge_evidence(table, other)
    process = ExchangeableGaussian(DIM + 1)
    with pytest.raises(UserError, match="vector: expected elements and evidence of 4 dim"):
        classify_table(corpus(), table, process)
    with pytest.raises(UserError, match="evidence: expected at least one key, got none"):
        classify_table(corpus(), merge_evidence(), process)
