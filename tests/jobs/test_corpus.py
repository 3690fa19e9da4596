"""Jobs over files: equal to one process, resumed without repeating, nothing half-merged."""

import numpy as np
import pandas as pd
import pytest

from bruno import Bruno, ExchangeableGaussian, RealNVP, UserError
from bruno.jobs import (
    classify_corpus,
    classify_table,
    embed_corpus,
    evidence_of_corpus,
    evidence_of_table,
    read_evidence,
    top_of_corpus,
    write_evidence,
)
from bruno.jobs.work import Work, run_work
from tests.jobs.test_tables import assert_same, corpus


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    table = corpus()
    for index, rows in enumerate(np.array_split(np.arange(len(table)), 4)):
        table.iloc[rows].to_parquet(folder / f"{index}.parquet")
    table.head(0).astype({"key": "str"}).to_parquet(folder / "empty.parquet")
    return folder


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    Bruno(RealNVP((3,), preset="diagonal"), ExchangeableGaussian(3)).save_pretrained(path)
    return path


def test_files_give_what_one_process_gives(files, tmp_path):
    shown = []
    path = evidence_of_corpus(files, tmp_path / "out", on_progress=lambda *row: shown.append(row))
    assert_same(read_evidence(path), evidence_of_table(corpus()))
    assert shown[-1] == ("evidence", 5, 5)


def test_a_job_goes_on_where_it_was_stopped(files, tmp_path, monkeypatch):
    out = tmp_path / "out"
    good = (files / "2.parquet").read_bytes()
    broken = corpus().head(3)
    broken.assign(vector=[np.full(3, np.nan)] * 3).to_parquet(files / "2.parquet")
    with pytest.raises(UserError, match=r"2\.parquet: vector: expected finite .* for key 'k"):
        evidence_of_corpus(files, out)
    assert not (out / "evidence.parquet").exists()
    times = {path.name: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert len(times) == 4
    (files / "2.parquet").write_bytes(good)
    path = evidence_of_corpus(files, out)
    assert_same(read_evidence(path), evidence_of_table(corpus()))
    after = {path.name: path.stat().st_mtime_ns for path in (out / "parts").iterdir()}
    assert len(after) == 5
    assert times.items() <= after.items()


def test_elements_are_embedded_classified_and_ranked(files, model, tmp_path):
    embedded = embed_corpus(files, tmp_path / "embedded", model, column="vector")
    path = evidence_of_corpus(files, tmp_path / "evidence", model=model)
    again = evidence_of_corpus(embedded, tmp_path / "again")
    assert_same(read_evidence(path), read_evidence(again))
    results = classify_corpus(embedded, tmp_path / "classes", path, model)
    found = pd.concat(map(pd.read_parquet, results), ignore_index=True)
    vectors = pd.concat(map(pd.read_parquet, embedded), ignore_index=True)
    process = Bruno.from_pretrained(model).process
    expected = classify_table(vectors, read_evidence(path), process)
    assert found["predicted"].tolist() == expected["predicted"].tolist()
    np.testing.assert_allclose(found["log_ratio"], expected["log_ratio"], rtol=1e-9)
    top = top_of_corpus(results, 2)
    best = found.groupby("predicted")["log_ratio"].max()
    assert top.groupby("predicted")["log_ratio"].max().equals(best)
    assert (top["predicted"].value_counts() <= 2).all()


def test_workers_with_other_weights_are_refused(files, model, tmp_path):
    from bruno.jobs import Embedder

    embedder = Embedder.of(model)
    Bruno(RealNVP((3,), preset="affine"), ExchangeableGaussian(3)).save_pretrained(model)
    with pytest.raises(UserError, match=r"model: expected weights .*, this worker has"):
        embedder.load()
    other = tmp_path / "other"
    Bruno(RealNVP((3,), preset="affine"), ExchangeableGaussian(3)).save_pretrained(other)
    both = [
        embed_corpus(files / f"{index}.parquet", tmp_path / f"v{index}", path, column="vector")[0]
        for index, path in enumerate([model, other])
    ]
    with pytest.raises(UserError, match="inputs: expected vectors of one model, got 0-"):
        evidence_of_corpus(both, tmp_path / "mixed")
    assert not (tmp_path / "mixed" / "evidence.parquet").exists()
    for name in ("a", "b"):
        write_evidence(evidence_of_table(corpus()), tmp_path / f"{name}.parquet", identity=name)
    with pytest.raises(UserError, match="evidence: expected files of one model, got"):
        read_evidence(tmp_path / "a.parquet", tmp_path / "b.parquet")


def test_workers_of_another_version_are_refused(files, tmp_path):
    work = Work(pd.read_parquet, version="0.0.1")
    with pytest.raises(UserError, match=r"bruno: expected version 0\.0\.1, .* this worker has"):
        run_work(work, [[files / "0.parquet"]], tmp_path / "out", "copying", "local", 1, None)
    assert not [*(tmp_path / "out").iterdir()]


def test_null_keys_are_reported_and_nothing_is_merged(files, tmp_path):
    nameless = corpus().head(3).assign(key=[None, "a", "b"])
    nameless.to_parquet(files / "nameless.parquet")
    with pytest.raises(UserError, match=r"nameless\.parquet: key: expected a key in every row"):
        evidence_of_corpus(files, tmp_path / "out")
    assert not (tmp_path / "out" / "evidence.parquet").exists()


def test_many_parts_are_merged_as_a_tree(files, tmp_path, monkeypatch):
    monkeypatch.setattr("bruno.jobs.corpus._FILES", 2)
    path = evidence_of_corpus(files, tmp_path / "out")
    assert_same(read_evidence(path), evidence_of_table(corpus()))
    assert len([*(tmp_path / "out" / "merged-1").iterdir()]) == 3
    assert len([*(tmp_path / "out" / "merged-2").iterdir()]) == 2
    # Evidence of another day, merged in another number of levels, is of the same model.
    monkeypatch.undo()
    other = evidence_of_corpus(files / "0.parquet", tmp_path / "other")
    assert read_evidence(path, other)["count"].sum() == len(corpus()) + 50


def test_mistakes_are_named(files, model, tmp_path):
    broken = corpus().head(3)
    broken.assign(vector=[np.full(3, np.nan)] * 3).to_parquet(tmp_path / "broken.parquet")
    with pytest.raises(UserError, match=r"vector: expected finite numbers, got NaN .* for key 'k"):
        evidence_of_corpus(tmp_path / "broken.parquet", tmp_path / "out", model=model)
    with pytest.raises(UserError, match="inputs: expected a Parquet file or a folder of them"):
        evidence_of_corpus(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "bare").mkdir()
    with pytest.raises(UserError, match="inputs: expected Parquet files, found none in"):
        evidence_of_corpus(tmp_path / "bare", tmp_path / "out")
    with pytest.raises(UserError, match="engine: expected one of local, ray, got 'spark'"):
        evidence_of_corpus(files, tmp_path / "out", engine="spark")
    with pytest.raises(UserError, match="column: expected one called name, got key, vector"):
        evidence_of_corpus(files, tmp_path / "out", key="name")
