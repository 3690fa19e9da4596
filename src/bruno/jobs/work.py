"""Restartable work on files, in this process or on Ray.

Every group of input files becomes one output file, written whole or not at all, so work that was
stopped goes on with the files that are missing, wherever it stopped. What made a file (the model's
weights, the version of this package, the work, and the inputs' sizes and times) is its identity:
files of another identity are made again, and never merged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch

from bruno.errors import UserError
from bruno.jobs.files import identity_of, write_table
from bruno.progress import ProgressCallback
from bruno.validation import check_choice, check_whole
from bruno.version import __version__

Engine = Literal["local", "ray"]


@dataclass(frozen=True)
class Work:
    """What is done with files: a function of their paths, and arguments that identify it.

    Attributes:
        function: Takes the paths of a group of files, then the arguments by name.
        arguments: The other arguments.
        version: Version of this package where the work was started; a worker of another refuses.
    """

    function: Callable[..., pd.DataFrame]
    arguments: dict[str, Any] = field(default_factory=dict)
    version: str = __version__

    def run(self, files: Sequence[Path], target: Path) -> str:
        """Write the result for a group of files, unless it is there.

        Args:
            files: The inputs.
            target: The file to write.

        Returns:
            The error of the input, or nothing.
        """
        if self.version != __version__:
            return (
                f"bruno: expected version {self.version}, where the job was started, this worker "
                f"has {__version__}"
            )
        identity = self._identity_for(files)
        if identity_of(target) == identity:
            return ""
        try:
            write_table(self.function(*files, **self.arguments), target, identity)
        except UserError as error:
            return f"{files[0]}: {error}"
        return ""

    def _identity_for(self, files: Sequence[Path]) -> str:
        """Return the identity of the result of a group of files."""
        content = [self.version, self.function.__name__, repr(sorted(self.arguments.items()))]
        status = [file.stat() for file in files]
        return json.dumps(
            {
                "work": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
                "source": sorted({made_by(file) for file in files}),
                "inputs": [
                    [str(file), of_file.st_size, of_file.st_mtime_ns]
                    for file, of_file in zip(files, status, strict=True)
                ],
            }
        )


def made_by(file: Path) -> str:
    """Return the work that made a file and that its inputs were made by, without the inputs.

    Args:
        file: A file; one that no work made is its own, and the answer is empty.
    """
    identity = identity_of(file) or ""
    try:
        content = json.loads(identity)
    except ValueError:
        return identity
    is_of_work = isinstance(content, dict)
    return json.dumps([content["work"], content["source"]]) if is_of_work else identity


def run_work(
    work: Work,
    groups: Sequence[Sequence[Path]],
    directory: Path,
    stage: str,
    engine: str,
    workers: int,
    on_progress: ProgressCallback | None,
) -> list[Path]:
    """Do work on groups of files.

    Args:
        work: The work.
        groups: Files, by the result that they are for.
        directory: Folder of the results, made if it is not there.
        stage: Name of the work in progress reports.
        engine: ``local``, in this process, or ``ray``.
        workers: Groups at once, with Ray.
        on_progress: Called with the stage, and how many of all groups are done.

    Returns:
        The results, in the order of the groups.

    Raises:
        UserError: If an argument or a file is not as expected; results that are done stay.
    """
    check_choice("engine", engine, ("local", "ray"))
    check_whole("workers", workers, 1)
    directory.mkdir(parents=True, exist_ok=True)
    targets = [directory / _name_for(files) for files in groups]
    execute = _with_ray if engine == "ray" else _here
    wrong = []
    for done, message in enumerate(execute(work, groups, targets, workers)):
        if message:
            wrong.append(message)
        if on_progress:
            on_progress(stage, done + 1, len(groups))
    if wrong:
        more = f" (and {len(wrong) - 1} more files)" if len(wrong) > 1 else ""
        raise UserError(f"{min(wrong)}{more}")
    return targets


def _name_for(files: Sequence[Path]) -> str:
    """Return the name of a result; files of one name in different folders stay apart."""
    digest = hashlib.sha256("\n".join(map(str, files)).encode()).hexdigest()
    return f"{files[0].stem}-{digest[:8]}.parquet"


def _here(
    work: Work, groups: Sequence[Sequence[Path]], targets: Sequence[Path], _: int
) -> Iterator[str]:
    yield from map(work.run, groups, targets)


def _with_ray(
    work: Work, groups: Sequence[Sequence[Path]], targets: Sequence[Path], workers: int
) -> Iterator[str]:
    import ray

    if not ray.is_initialized():
        # Of a Ray that is started here nobody looks at the dashboard, which is slow to start.
        ray.init(include_dashboard=False)
    rows = [
        {"files": [*map(str, files)], "target": str(target)}
        for files, target in zip(groups, targets, strict=True)
    ]

    def on_worker(row: dict[str, Any]) -> dict[str, Any]:
        torch.set_num_threads(1)
        return {"wrong": work.run([*map(Path, row["files"])], Path(row["target"]))}

    corpus = ray.data.from_items(rows, override_num_blocks=len(rows))
    for row in corpus.map(on_worker, concurrency=workers).iter_rows():
        yield row["wrong"]
