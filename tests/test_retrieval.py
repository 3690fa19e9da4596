"""Inner products of query and corpus vectors are log-ratios; indices rank by them."""

import numpy as np
import pytest
import torch

from bruno import Evidence, ExchangeableGaussian, ExchangeableStudentT, UserError
from bruno.retrieval import RetrievalSpace
from bruno.seeding import generator_for

DIM, CORPUS = 8, 500


@pytest.fixture
def process():
    correlation = torch.linspace(0, 0.9, DIM).double()
    variance = torch.linspace(0.5, 2, DIM).double()
    return ExchangeableGaussian.from_parameters(variance, variance * correlation, loc=3.0)


@pytest.fixture
def elements():
    return 3 + torch.randn(CORPUS, DIM, generator=generator_for(0), dtype=torch.float64)


@pytest.fixture
def sets(elements):
    sizes = (0, 1, 2, 20)
    return Evidence.stack([Evidence.of(elements[: size or None][:size]) for size in sizes])


def log_ratios(process, elements, sets):
    prior = process.log_prob_given(elements, Evidence.empty(DIM, (1,)))
    return (process.log_prob_given(elements, sets) - prior).detach()


def test_inner_products_are_log_ratios(process, elements, sets):
    space = RetrievalSpace.of(process)
    assert space.dim == 2 * (DIM - 1) + 1  # the first dimension is not correlated
    found = space.corpus(elements).astype(np.float64) @ space.queries(sets).T.astype(np.float64)
    np.testing.assert_allclose(found, log_ratios(process, elements, sets), rtol=1e-5, atol=2e-5)
    assert not space.queries(sets)[0].any()


def test_indices_return_the_ranking(process, elements, sets):
    import duckdb
    import faiss

    space = RetrievalSpace.of(process)
    corpus, queries = space.corpus(elements), space.queries(sets)[1:]
    expected = log_ratios(process, elements, sets)[:, 1:].T.argsort(1, descending=True)[:, :10]
    flat = faiss.IndexFlatIP(space.dim)
    flat.add(corpus)
    assert np.array_equal(flat.search(queries, 10)[1], expected)
    graph = faiss.IndexHNSWFlat(space.dim, 32, faiss.METRIC_INNER_PRODUCT)
    graph.hnsw.efSearch = 400
    graph.add(corpus)
    found = graph.search(queries, 10)[1]
    recall = np.mean([len({*a} & {*b.tolist()}) / 10 for a, b in zip(found, expected, strict=True)])
    assert recall > 0.8  # a graph is approximate
    with duckdb.connect() as database:
        database.execute(f"create table corpus (id integer, v float[{space.dim}])")
        database.executemany(
            "insert into corpus values (?, ?)", [[i, v.tolist()] for i, v in enumerate(corpus)]
        )
        rows = database.execute(
            "select id from corpus order by array_inner_product(v, ?::float[15]) desc limit 10",
            [queries[0].tolist()],
        ).fetchall()
    assert [row[0] for row in rows] == expected[0].tolist()


def test_log_ratios_for_sets_of_one_size_are_distances(process, elements):
    space = RetrievalSpace.of(process)
    sets = Evidence.of(elements.unflatten(0, (100, 5)))
    centres, most = space.centres(sets)
    distance = np.square(space.points(elements, 5)[:, None].astype(np.float64) - centres).sum(-1)
    np.testing.assert_allclose(
        most - 0.5 * distance, log_ratios(process, elements, sets), rtol=1e-5, atol=2e-5
    )
    with pytest.raises(UserError, match=r"evidence: expected sets of one size .* got sizes \[1, 2"):
        space.centres(Evidence.stack([Evidence.of(elements[:1]), Evidence.of(elements[:2])]))
    with pytest.raises(UserError, match="count: expected a whole number of at least 1"):
        space.points(elements, 0)


def test_a_graph_of_distances_finds_the_ranking(process, elements):
    import faiss

    space = RetrievalSpace.of(process)
    sets = Evidence.of(elements[:50].unflatten(0, (10, 5)))
    expected = log_ratios(process, elements, sets).T.argsort(1, descending=True)[:, :10]
    graph = faiss.IndexHNSWFlat(len(space.dimensions), 32)
    graph.add(space.points(elements, 5))
    found = graph.search(space.centres(sets)[0], 10)[1]
    recall = np.mean([len({*a} & {*b.tolist()}) / 10 for a, b in zip(found, expected, strict=True)])
    assert recall > 0.95


def test_fewer_dimensions_are_approximate(process, elements, sets):
    space = RetrievalSpace.of(process, least_correlation=0.5)
    assert len(space.dimensions) == 4
    assert space.fingerprint != RetrievalSpace.of(process).fingerprint
    found = space.corpus(elements) @ space.queries(sets)[2]
    exact = log_ratios(process, elements, sets)[:, 2]
    assert np.corrcoef(found, exact)[0, 1] > 0.95


def test_mistakes_are_named(process, elements):
    with pytest.raises(UserError, match="process: expected an ExchangeableGaussian, whose"):
        RetrievalSpace.of(ExchangeableStudentT(3))
    with pytest.raises(UserError, match=r"least_correlation: expected less than the .*0\.9"):
        RetrievalSpace.of(process, least_correlation=0.95)
    space = RetrievalSpace.of(process)
    with pytest.raises(UserError, match="z: expected vectors of 8 dimensions"):
        space.corpus(elements[:, :3])
    with pytest.raises(UserError, match="evidence: expected vectors of 8 dimensions"):
        space.queries(Evidence.empty(3))
    with pytest.raises(UserError, match="z: expected finite numbers"):
        space.corpus(elements * torch.nan)
    with pytest.raises(UserError, match=r"index: expected 15 dimensions .*, got 64; it was made"):
        space.check_index(64)
