"""Evidence, classes and scores of corpora that one process cannot hold, exactly.

Evidence of sets adds, so a corpus is worked through file by file, on any machine and in any order,
and what the files say of a key is merged. :mod:`bruno.jobs.tables` has the functions of tables
(pandas, for Spark, Dask and Ray alike), :mod:`bruno.jobs.corpus` the restartable jobs over Parquet
files, and :mod:`bruno.jobs.work` spreads them over Ray or does them in this process.
"""

from __future__ import annotations

from bruno.lazy import lazy_exports

__all__ = [
    "Embedder",
    "classify_corpus",
    "classify_table",
    "embed_corpus",
    "evidence_of_corpus",
    "evidence_of_table",
    "forget_evidence",
    "merge_evidence",
    "read_evidence",
    "top_of_corpus",
    "write_evidence",
]

_HOMES = {
    **dict.fromkeys(
        ("classify_table", "evidence_of_table", "forget_evidence", "merge_evidence"),
        "bruno.jobs.tables",
    ),
    **dict.fromkeys(("read_evidence", "write_evidence"), "bruno.jobs.files"),
    "Embedder": "bruno.jobs.embedder",
    **dict.fromkeys(
        (
            "classify_corpus",
            "embed_corpus",
            "evidence_of_corpus",
            "top_of_corpus",
        ),
        "bruno.jobs.corpus",
    ),
}

__getattr__, __dir__ = lazy_exports(__name__, _HOMES)
