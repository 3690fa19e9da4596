"""Cost of evidence by key of a corpus on disk, against the bare pass over it, as it grows.

    python benchmarks/corpus.py [--rows 100000 1000000] [--engine ray] [--out FILE]

A corpus has 64 dimensions in float32, a thousand keys and files of 100,000 rows. The bare pass
reads every column of every file and adds the numbers up. CPU seconds are those of this process, so
that other programs on the machine count little. ``difference`` is the largest relative one
of count, mean or scatter from those of one process that holds the corpus in memory, where it fits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from bruno import Evidence
from bruno.jobs import evidence_of_corpus, read_evidence
from bruno.jobs.tables import evidence_in
from bruno.provenance import provenance

_DIM, _KEYS, _FILE, _IN_MEMORY = 64, 1000, 100_000, 1_000_000


def part(index: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return keys and vectors of a file."""
    random = np.random.default_rng(index)
    keys = random.integers(_KEYS, size=rows)
    return keys, 10 + random.standard_normal((rows, _DIM), dtype=np.float32)


def write(folder: Path, rows: int) -> None:
    """Write a corpus."""
    for index in range(-(-rows // _FILE)):
        keys, z = part(index, min(_FILE, rows - index * _FILE))
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(z.ravel()), _DIM)
        table = pa.table({"key": pa.array(keys), "vector": vectors})
        pq.write_table(table, folder / f"{index:05}.parquet", compression="none")


def bare_pass(folder: Path) -> tuple[float, float]:
    """Return the CPU and wall-clock seconds of reading a corpus and adding its numbers up."""
    start, cpu = time.perf_counter(), time.process_time()
    total = 0.0
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file)
        total += float(table["vector"].combine_chunks().flatten().to_numpy().sum())
    assert total > 0
    return time.process_time() - cpu, time.perf_counter() - start


def in_memory(rows: int) -> Evidence:
    """Return the evidence of every key by one process."""
    parts = [part(index, min(_FILE, rows - index * _FILE)) for index in range(-(-rows // _FILE))]
    keys, z = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    return Evidence.by_class(torch.from_numpy(z), torch.from_numpy(keys))


def difference(found: Evidence, expected: Evidence) -> float:
    """Return the largest relative difference of two evidences."""
    pairs = [
        (found.count, expected.count),
        (found.mean, expected.mean),
        (found.scatter, expected.scatter),
    ]
    return max(float(((a - b).abs() / b.abs()).max()) for a, b in pairs)


def measured(rows: int, engine: str, workers: int, scratch: Path) -> dict[str, Any]:
    """Return the figures of a corpus of some rows."""
    folder = scratch / f"corpus-{rows}"
    folder.mkdir()
    write(folder, rows)
    bare, bare_wall = min(bare_pass(folder) for _ in range(2))
    wall, cpu = time.perf_counter(), time.process_time()
    path = evidence_of_corpus(folder, scratch / f"out-{rows}", engine=engine, workers=workers)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    start = time.perf_counter()
    evidence_of_corpus(folder, scratch / f"out-{rows}", engine=engine, workers=workers)
    again = time.perf_counter() - start
    figures: dict[str, Any] = {
        "rows": rows,
        "engine": engine,
        "workers": workers,
        "bare_pass_seconds": round(bare_wall, 2),
        "bare_pass_cpu_seconds": round(bare, 2),
        "evidence_seconds": round(seconds, 2),
        "evidence_cpu_seconds": round(cpu_seconds, 2),
        "cpu_microseconds_per_row": round(1e6 * cpu_seconds / rows, 3),
        "times_the_bare_pass": round(cpu_seconds / bare, 2),
        "resumed_with_nothing_to_do_seconds": round(again, 2),
    }
    if rows <= _IN_MEMORY:
        figures["difference"] = difference(evidence_in(read_evidence(path)), in_memory(rows))
    shutil.rmtree(folder)
    return figures


def main() -> None:
    """Measure, print, and append to a file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--engine", choices=["local", "ray"], default="local")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--out", type=Path, help="file to append the figures to")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        for rows in arguments.rows:
            figures = measured(rows, arguments.engine, arguments.workers, Path(scratch))
            line = json.dumps({**provenance(), **figures})
            print(line, flush=True)
            if arguments.out:
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(line + "\n")


if __name__ == "__main__":
    main()
