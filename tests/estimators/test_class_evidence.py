import copy
import pickle

import numpy as np
import pytest
import torch

from bruno import Evidence
from bruno.estimators.class_evidence import ClassEvidence
from bruno.seeding import generator_for


def evidence_of(number, dim=3):
    return Evidence.of(torch.arange(float(number * 2 * dim)).view(number, 2, dim))


def test_classes_are_read_in_the_order_of_their_labels():
    evidence = evidence_of(4)
    known = ClassEvidence(np.array(list("abcd")), evidence)
    known.update({"b": None, "d": None})
    assert len(known) == 2
    assert "b" not in known
    with pytest.raises(KeyError):
        known["b"]
    known.update({"e": evidence[3], "a": evidence[1], "ab": evidence[0]}, np.dtype("<U2"))
    now = known.now()
    assert now.labels.tolist() == ["a", "ab", "c", "e"]
    assert torch.equal(now.evidence.mean, evidence.mean[[1, 0, 2, 3]])
    assert torch.equal(evidence.mean, evidence_of(4).mean)


def test_what_was_read_does_not_change_and_is_read_again_while_nothing_changes():
    known = ClassEvidence(np.array([3, 5]), evidence_of(2))
    before = known.now()
    assert known.now() is before
    assert known.observe(5, np.ones(3))
    known.update({4: Evidence.empty(3)}, np.dtype(np.int64))
    now = known.now()
    assert known.now() is now
    assert now.labels.tolist() == [3, 4, 5]
    assert now.evidence.count.tolist() == [2, 0, 3]
    assert before.labels.tolist() == [3, 5]
    assert torch.equal(before.evidence.mean, evidence_of(2).mean)
    known.update({4: None})
    assert known.now().labels.tolist() == [3, 5]
    known.update({4: Evidence.empty(3)})
    assert known.now().labels.tolist() == [3, 4, 5]


def test_while_classes_are_dropped_the_others_are_read():
    known = ClassEvidence(np.array([3, 4, 5]), evidence_of(3))
    between = []

    class Watched(dict):
        def pop(self, *arguments):
            between.append(known.now())
            return super().pop(*arguments)

    known._evidence = Watched(known._evidence)
    for _ in range(2):  # the second time there are none to drop
        known.update({4: None, 5: None})
    assert [now.labels.tolist() for now in between] == [[3]] * 4
    assert torch.equal(known.now().evidence.mean, evidence_of(3).mean[:1])


def test_copies_hold_what_is_known_and_no_more():
    known = ClassEvidence(np.array([-1]), evidence_of(1))
    for label in range(1000):
        known.update({label: Evidence.of(torch.full((label + 1, 3), float(label)))})
    for again in (pickle.loads(pickle.dumps(known)), copy.copy(known)):  # noqa: S301
        assert len(again) == 1001
        assert int(again[999].count) == 1000
        assert again.observe(999, np.zeros(3))
        assert int(known[999].count) == 1000
    assert len(pickle.dumps(known)) < 3 * (2 * 3 + 1) * 8 * 1001


def test_to_observe_is_to_merge_and_changes_one_class_only():
    evidence = Evidence.of(
        1e6 + torch.randn(3, 4, 5, dtype=torch.float64, generator=generator_for(0))
    )
    known = ClassEvidence(np.array([3, 5, 8]), evidence)
    before = known.now().evidence
    elements = 1e6 + torch.randn(6, 5, dtype=torch.float64, generator=generator_for(1))
    for element in elements:
        assert known.observe(5, element.numpy())
    expected = evidence[1] + Evidence.of(elements)
    assert int(known[5].count) == 10
    torch.testing.assert_close(known[5].mean, expected.mean, rtol=1e-14, atol=0)
    torch.testing.assert_close(known[5].scatter, expected.scatter, rtol=1e-8, atol=0)
    for row, label in ((0, 3), (2, 8)):
        assert torch.equal(known[label].mean, evidence[row].mean)
        assert torch.equal(known[label].scatter, evidence[row].scatter)
    assert torch.equal(before.mean, evidence.mean)
