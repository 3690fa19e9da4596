import pickle

import numpy as np
import torch

from bruno import Evidence
from bruno.estimators.class_evidence import ClassEvidence


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
