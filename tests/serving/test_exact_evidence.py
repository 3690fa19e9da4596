"""Sums in whole numbers: exact in any order, and exactly undone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bruno import UserError
from bruno.evidence import Evidence
from bruno.serving.exact_evidence import LARGEST, MOST_ELEMENTS, ExactEvidence, fixed_point

vectors = st.lists(
    st.lists(st.floats(-LARGEST / 2, LARGEST / 2), min_size=3, max_size=3), min_size=1, max_size=8
).map(lambda rows: fixed_point(np.array(rows)))


@given(vectors, st.randoms(use_true_random=False))
def test_sums_do_not_depend_on_order_or_grouping(rows, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    one_by_one = ExactEvidence.empty(3)
    for index in order:
        one_by_one = one_by_one + ExactEvidence.of(rows[index : index + 1])
    assert one_by_one.digest() == ExactEvidence.of(rows).digest()


@given(vectors, vectors)
def test_forgetting_leaves_the_bits_of_a_set_that_never_had_it(rows, others):
    both = ExactEvidence.of(rows) + ExactEvidence.of(others)
    left = both - ExactEvidence.of(others)
    assert left.digest() == ExactEvidence.of(rows).digest()
    nothing = left - ExactEvidence.of(rows)
    assert nothing.digest() == ExactEvidence.empty(3).digest()


@given(vectors)
def test_they_survive_bytes_and_are_those_of_python_integers(rows):
    evidence = ExactEvidence.of(rows)
    again = ExactEvidence.from_bytes(evidence.count, evidence.to_bytes())
    assert again.digest() == evidence.digest()
    total, high, low = evidence.sums.tolist()
    assert total == [sum(map(int, column)) for column in rows.T]
    squares = [sum(int(q) ** 2 for q in column) for column in rows.T]
    assert [h * 2**40 + rest for h, rest in zip(high, low, strict=True)] == squares


@given(vectors)
def test_mean_and_scatter_are_those_of_floats(rows):
    exact, floats = ExactEvidence.of(rows).evidence(), Evidence.of(torch.from_numpy(rows / 2.0**24))
    size = floats.mean.abs().max().clamp_min(1)
    assert exact.count == floats.count
    assert torch.allclose(exact.mean, floats.mean, rtol=0, atol=1e-12 * float(size))
    assert torch.allclose(exact.scatter, floats.scatter, rtol=1e-9, atol=1e-9 * float(size))


def test_a_small_scatter_far_from_zero_keeps_its_digits():
    rows = fixed_point(np.array([[30000.0], [30000.0 + 2**-20]]))
    assert float(ExactEvidence.of(rows).evidence().scatter) == 2.0**-41


@given(vectors)
def test_evidence_in_floats_is_rounded_to_the_nearest(rows):
    floats = ExactEvidence.of(rows).evidence()
    rounded = ExactEvidence.rounded(floats)
    assert rounded.is_possible()
    assert np.abs(rounded.sums[0] - ExactEvidence.of(rows).sums[0]).max() <= 2


def test_the_evidence_of_many_is_within_64_bits():
    extreme = np.full((1, 1), (LARGEST << 24) - 1)
    one = ExactEvidence.of(extreme)
    most = ExactEvidence(MOST_ELEMENTS, one.sums * MOST_ELEMENTS)
    assert (most.sums >= 0).all()
    with pytest.raises(UserError, match="at most 4194304 of a class"):
        most + one


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -LARGEST, 1e300])
def test_what_is_too_far_is_refused(value):
    with pytest.raises(UserError, match="latent coordinates are below 32768"):
        fixed_point(np.array([[value]]))


def test_what_was_never_learned_cannot_be_forgotten():
    one, other, third = (ExactEvidence.of(fixed_point(np.array([[x]]))) for x in (0.5, 0.25, 4.0))
    for whole, part in ((one, other), (one + one, other), (one + one + other, third)):
        with pytest.raises(UserError, match="part of this class"):
            whole - part
    with pytest.raises(UserError, match="part of this class"):
        one - (one + one)
