from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bruno import Evidence, UserError
from bruno.seeding import generator_for
from tests.fuzzing import fuzz_settings


def random_z(*shape, seed=0, offset=0.0):
    return offset + torch.randn(shape, generator=generator_for(seed), dtype=torch.float64)


def assert_same(a, b, tolerance=1e-10):
    assert torch.equal(a.count, b.count)
    torch.testing.assert_close(a.mean, b.mean, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(a.scatter, b.scatter, rtol=tolerance, atol=tolerance)


def test_of_is_count_mean_and_scatter():
    z = random_z(2, 5, 3)
    evidence = Evidence.of(z.float())
    assert evidence.count.tolist() == [5, 5]
    assert evidence.mean.dtype == torch.float64
    torch.testing.assert_close(evidence.mean, z.float().double().mean(1))
    torch.testing.assert_close(evidence.scatter, z.float().double().var(1) * 4)


def test_of_nothing_is_empty():
    assert_same(Evidence.of(torch.zeros(4, 0, 3)), Evidence.empty(3, (4,)))


@settings(deadline=None, max_examples=50)
@given(
    sizes=st.lists(st.integers(0, 6), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
    offset=st.sampled_from([0.0, 1e3, -1e6]),
)
def test_merging_equals_observing_everything_at_once(sizes, seed, offset):
    z = random_z(sum(sizes), 3, seed=seed, offset=offset)
    merged = Evidence.empty(3)
    for part in z.split(sizes):
        merged = merged + Evidence.of(part)
    assert_same(merged, Evidence.of(z), tolerance=1e-9 * max(1.0, abs(offset) * 1e-3))


@settings(deadline=None, max_examples=50)
@given(kept=st.integers(0, 5), forgotten=st.integers(0, 5), seed=st.integers(0, 1000))
def test_merging_then_forgetting_is_the_identity(kept, forgotten, seed):
    a = Evidence.of(random_z(2, kept, 3, seed=seed))
    b = Evidence.of(random_z(2, forgotten, 3, seed=seed + 1))
    assert_same((a + b) - b, a)


def test_observe_takes_one_element_or_several_per_set():
    z = random_z(4, 6, 3)
    one_by_one = Evidence.empty(3, (4,))
    for i in range(6):
        one_by_one = one_by_one.observe(z[:, i])
    assert_same(one_by_one, Evidence.of(z))
    assert_same(Evidence.empty(3, (4,)).observe(z), Evidence.of(z))


def test_evidence_broadcasts_over_batches():
    shared, own = Evidence.of(random_z(5, 3)), Evidence.of(random_z(4, 2, 3, seed=1))
    merged = shared + own
    for i in range(4):
        assert_same(merged[i], shared + own[i])


def test_forgetting_an_element_encoded_again_in_float32_is_accepted():
    z = random_z(4, 784, seed=3)
    wobbled = z[3:] * (1 + 1e-6 * random_z(1, 784, seed=4))
    assert_same(Evidence.of(z) - Evidence.of(wobbled), Evidence.of(z[:3]), tolerance=1e-4)
    assert_same(Evidence.of(z[:1]) - Evidence.of(z[:1] + 1e-6), Evidence.empty(784))


@pytest.mark.parametrize(
    "other",
    [random_z(4, 3, seed=9), random_z(3, 3, seed=9), 100 * random_z(2, 3, seed=9)],
    ids=["more than seen", "all, but others", "scatter beyond the whole"],
)
def test_forgetting_what_was_never_seen_is_refused(other):
    with pytest.raises(UserError, match="forget"):
        Evidence.of(random_z(3, 3)) - Evidence.of(other)


def scatter_left(seen, forgotten):
    """Exact scatter of the elements seen without those forgotten, from the statistics of both."""
    sums = [(len(part), sum(part), sum(z * z for z in part)) for part in (seen, forgotten)]
    n, total, squares = (whole - part for whole, part in zip(*sums, strict=True))
    return squares - Fraction(total * total, n) if n else abs(squares) + abs(total)


def evidence_of_numbers(elements, centre):
    z = torch.tensor([[float(z) for z in element] for element in elements], dtype=torch.float64)
    return Evidence.of(z.view(-1, 2) + centre)


whole_numbers = st.lists(st.integers(-9, 9).map(Fraction), min_size=2, max_size=2)


@fuzz_settings(100)
@given(
    seen=st.lists(whole_numbers, min_size=1, max_size=8),
    others=st.lists(whole_numbers, max_size=3),
    among=st.integers(0, 8),
    centre=st.sampled_from([0, 10**4]),
    data=st.data(),
)
def test_what_cannot_have_been_seen_is_refused_and_all_else_forgotten(
    seen, others, among, centre, data
):
    seen = data.draw(st.permutations(seen))
    forgotten = [*seen[: min(among, len(seen))], *others][: len(seen)]
    n = len(seen) - len(forgotten)
    left = [
        scatter_left(*([element[d] for element in part] for part in (seen, forgotten)))
        for d in range(2)
    ]
    possible = all(scatter >= 0 for scatter in left) if n > 1 else not any(left)
    evidence = evidence_of_numbers(seen, centre)
    part = evidence_of_numbers(forgotten, centre)
    if not possible:
        with pytest.raises(UserError, match="forget"):
            evidence.without(part, 1e-8)
        return
    found = evidence.without(part, 1e-8)
    assert int(found.count) == n
    expected = torch.tensor([float(scatter) for scatter in left], dtype=torch.float64)
    torch.testing.assert_close(found.scatter, expected * (n > 0), rtol=1e-6, atol=1e-6)
    if not others:
        assert_same(found, evidence_of_numbers(seen[among:], centre), tolerance=1e-6)


def test_other_elements_of_the_same_number_are_not_those_seen():
    # Squared, the means are as far apart as the scatters, up to a factor.
    seen, others = torch.tensor([[-5.0], [8.0]]), torch.tensor([[5.0], [-6.0]])
    with pytest.raises(UserError, match="no subset of the elements seen"):
        Evidence.of(seen) - Evidence.of(others)


def test_an_element_too_far_from_the_mean_was_never_in_the_set():
    z = random_z(10, 3)
    evidence = Evidence.of(z)
    furthest = evidence.mean + (evidence.scatter * 9 / 10).sqrt()
    for sign in (1, -1):
        for dimension in range(3):
            element = evidence.mean.clone()
            reach = sign * (furthest - evidence.mean)[dimension]
            element[dimension] += reach * (1 - 1e-6)
            evidence.without(evidence.of_elements(element), 1e-8)
            element[dimension] += reach * 2e-6
            with pytest.raises(UserError, match="no subset of the elements seen"):
                evidence.without(evidence.of_elements(element), 1e-8)


@pytest.mark.parametrize("before", [0, 980_000])
def test_observations_one_by_one_match_all_at_once_in_constant_memory(before):
    """The first and the last of a million; 1e-6 of a million updates is a fiftieth of it here."""
    n, dim = 20_000, 2
    z = 5 + torch.randn(before + n, dim, generator=generator_for(0), dtype=torch.float64)
    streamed = Evidence.of(z[:before])
    for element in z[before:].unbind():
        streamed = streamed.observe(element)
    whole = Evidence.of(z)
    assert int(streamed.count) == before + n
    assert sum(t.numel() for t in (streamed.count, streamed.mean, streamed.scatter)) == 1 + 2 * dim
    torch.testing.assert_close(streamed.mean, whole.mean, rtol=2e-8, atol=2e-8)
    torch.testing.assert_close(streamed.scatter, whole.scatter, rtol=2e-8, atol=2e-8)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), "floating-point"),
        ([1.0, 2.0], "floating-point"),
        (torch.zeros(3), r"shape \(\*B, n, D\)"),
        (torch.full((2, 3), torch.nan), "finite"),
        (torch.full((2, 3), torch.inf), "finite"),
    ],
)
def test_bad_elements_are_named(bad, message):
    with pytest.raises(UserError, match=message):
        Evidence.of(bad)


def test_bad_shapes_are_named():
    with pytest.raises(UserError, match="expected dimension 3, got 4"):
        Evidence.empty(3) + Evidence.empty(4)
    with pytest.raises(UserError, match=r"expected shape \(2, \[n,\] 3\), got \(5, 3\)"):
        Evidence.empty(3, (2,)).observe(torch.zeros(5, 3))
    with pytest.raises(UserError, match="dim"):
        Evidence.empty(0)
    with pytest.raises(UserError, match="evidence: expected count"):
        Evidence(torch.zeros(2), torch.zeros(3, 1), torch.zeros(3, 1))


def test_batches_that_do_not_fit_are_named_and_other_things_do_not_add():
    with pytest.raises(UserError, match=r"broadcasts with \(3,\), got \(2,\)"):
        Evidence.empty(3, (3,)) + Evidence.empty(3, (2,))
    with pytest.raises(TypeError):
        Evidence.empty(3) + 1
