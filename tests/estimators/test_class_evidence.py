import pickle

import numpy as np
import torch

from bruno import Evidence
from bruno.estimators.class_evidence import ClassEvidence
from bruno.seeding import generator_for


def evidence_of(number, dim=3):
    return Evidence.of(torch.arange(float(number * 2 * dim)).view(number, 2, dim))


def test_a_new_class_moves_few_numbers():
    known = ClassEvidence(np.array([-1]), evidence_of(1))
    tables = set()
    for label in range(1000):
        known.update({label: Evidence.of(torch.full((label + 1, 3), float(label)))})
        tables.add(known.in_order_of_arrival.mean.data_ptr())
    assert len(tables) <= 12
    assert len(known) == 1001
    assert int(known[999].count) == 1000
    assert known.copied([7, -1]).count.tolist() == [8, 2]
    assert len(pickle.dumps(known)) < 3 * (2 * 3 + 1) * 8 * 1001


def test_the_last_row_takes_the_place_of_a_dropped_one():
    evidence = evidence_of(4)
    known = ClassEvidence(np.array(list("abcd")), evidence)
    known.update({"b": None, "d": None})
    assert len(known) == 2
    assert "b" not in known
    known.update({"e": evidence[3], "a": evidence[1]})
    left = known.copied(["a", "c", "e"])
    assert torch.equal(left.mean, evidence.mean[[1, 2, 3]])
    assert torch.equal(evidence.mean, evidence_of(4).mean)
    assert len(known.in_order_of_arrival.count) == 3


def test_to_observe_is_to_merge_and_changes_one_class_only():
    evidence = Evidence.of(
        1e6 + torch.randn(3, 4, 5, dtype=torch.float64, generator=generator_for(0))
    )
    known = ClassEvidence(np.array([3, 5, 8]), evidence)
    before = known.copied([3, 5, 8])
    elements = 1e6 + torch.randn(6, 5, dtype=torch.float64, generator=generator_for(1))
    for element in elements:
        known.observe(5, element)
    expected = evidence[1] + Evidence.of(elements)
    assert int(known[5].count) == 10
    torch.testing.assert_close(known[5].mean, expected.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(known[5].scatter, expected.scatter, rtol=1e-8, atol=0)
    for row, label in ((0, 3), (2, 8)):
        assert torch.equal(known[label].mean, evidence[row].mean)
        assert torch.equal(known[label].scatter, evidence[row].scatter)
    assert torch.equal(before.mean, evidence.mean)
