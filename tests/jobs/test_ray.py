"""Jobs on a Ray of this machine give what one process gives, however a corpus is cut into files."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import ray

from bruno import Bruno, ExchangeableGaussian, RealNVP, UserError
from bruno.jobs import (
    classify_corpus,
    embed_corpus,
    evidence_of_corpus,
    evidence_of_table,
    read_evidence,
)
from bruno.jobs.work import Work, run_work
from tests.jobs.test_tables import assert_same, corpus

# Ray gives its own processes 30 seconds to start, whatever the machine does meanwhile.
_STARTS = 4


@pytest.fixture(scope="module", autouse=True)
def cluster():
    for start in range(_STARTS):
        try:
            ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000)
            break
        except Exception:
            ray.shutdown()
            if start == _STARTS - 1:
                raise
    yield
    ray.shutdown()


def write(folder, cuts):
    """Write the corpus as a file for every part between cuts."""
    folder.mkdir()
    table = corpus()
    borders = [0, *sorted(cuts), len(table)]
    for index, (start, end) in enumerate(pairwise(borders)):
        part = table.iloc[start:end].astype({"key": "str"})
        part.to_parquet(folder / f"{index}.parquet")
    return folder


def test_any_partition_on_two_workers_gives_what_one_process_gives(tmp_path, monkeypatch):
    monkeypatch.setattr("bruno.jobs.corpus._FILES", 2)  # so that parts are merged as a tree
    cuts = np.random.default_rng(0).integers(200, size=5)
    files = write(tmp_path / "corpus", [*cuts, cuts[0]])
    shown = []
    path = evidence_of_corpus(
        files,
        tmp_path / "out",
        engine="ray",
        workers=2,
        on_progress=lambda *row: shown.append(row),
    )
    assert_same(read_evidence(path), evidence_of_table(corpus()))
    assert ("evidence", 7, 7) in shown
    assert [row for row in shown if row[0] == "merging"][-1] == ("merging", 2, 2)


def test_images_are_embedded_and_classified_as_by_one_process(tmp_path):
    model = tmp_path / "model"
    Bruno(RealNVP((3,), preset="diagonal"), ExchangeableGaussian(3)).save_pretrained(model)
    files = write(tmp_path / "corpus", [60])
    found = {}
    for engine in ("local", "ray"):
        out = tmp_path / engine
        vectors = embed_corpus(files, out / "z", model, column="vector", engine=engine)
        path = evidence_of_corpus(vectors, out / "evidence")
        results = classify_corpus(vectors, out / "classes", path, model, engine=engine)
        found[engine] = pd.concat(map(pd.read_parquet, results), ignore_index=True)
    pd.testing.assert_frame_equal(found["ray"], found["local"], rtol=1e-9)


def counted(file, marker):
    if not Path(marker).exists():
        Path(marker).touch()
        os._exit(1)
    return pd.DataFrame({"rows": [len(pd.read_parquet(file))]})


def test_a_worker_that_dies_is_replaced(tmp_path):
    files = sorted(write(tmp_path / "corpus", [50]).iterdir())
    work = Work(counted, {"marker": str(tmp_path / "died")})
    groups = [[file] for file in files]
    results = run_work(work, groups, tmp_path / "out", "counting", "ray", 2, None)
    assert [int(pd.read_parquet(path)["rows"][0]) for path in results] == [50, 150]
    assert (tmp_path / "died").exists()


def test_a_partition_that_is_not_finite_is_named_and_nothing_is_merged(tmp_path):
    files = write(tmp_path / "corpus", [50])
    broken = corpus().head(3)
    broken = broken.assign(vector=[np.full(3, np.nan)] * 3)
    broken.to_parquet(files / "broken.parquet")
    with pytest.raises(UserError, match=r"broken\.parquet: vector: expected finite .* key 'k"):
        evidence_of_corpus(files, tmp_path / "out", engine="ray", workers=2)
    assert not (tmp_path / "out" / "evidence.parquet").exists()
    assert len([*(tmp_path / "out" / "parts").iterdir()]) == 2
