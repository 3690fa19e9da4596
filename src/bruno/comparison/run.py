"""A comparison: every system with every seed at the same budget, resumable, as JSON lines."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bruno.baselines.interface import System
from bruno.baselines.meta_training import (
    MetaTrainingConfig,
    build_system,
    meta_train,
    validation_figures,
)
from bruno.baselines.registry import SYSTEMS
from bruno.comparison.measure import MeasureConfig, measure, measure_cost, settings_for
from bruno.data.dataset import LabelledImages
from bruno.data.registry import DataConfig, load_dataset
from bruno.data.sets import Episode
from bruno.device import one_thread
from bruno.errors import UserError
from bruno.evaluation.within_alphabet import (
    drawn_runs,
    official_runs,
    without_evaluation_alphabets,
)
from bruno.paths import check_writable, user_path
from bruno.progress import ProgressCallback
from bruno.provenance import provenance
from bruno.serialization import write_atomically
from bruno.validation import check_positive, check_whole

CONFIG_FILE = "comparison.json"
USUAL_MARKS = (1.0, 5.0, 15.0, 60.0)
"""CPU minutes at which systems are measured, besides the end of the budget."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class ComparisonConfig:
    """Everything but the systems and seeds that determines the figures of a comparison.

    Attributes:
        dataset: Name of a data set with training, validation and test classes.
        budget: CPU minutes of the meta-training of each system, validations included.
        episodes: Test episodes of each task.
        queries: Queries of each class in one.
        lake_runs: Official runs of the within-alphabet task, ``all_runs.zip`` or extracted, in
            place of runs drawn from test classes; training then leaves out their alphabets.
    """

    dataset: str = "omniglot"
    budget: float = 15.0
    episodes: int = 100
    queries: int = 5
    lake_runs: str | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: If a number is not positive.
        """
        check_positive("budget", self.budget)
        check_whole("episodes", self.episodes, 2)
        check_whole("queries", self.queries, 1)

    @property
    def marks(self) -> tuple[float, ...]:
        """CPU minutes at which systems are measured."""
        return (*(mark for mark in USUAL_MARKS if mark < self.budget), self.budget)

    @property
    def measuring(self) -> MeasureConfig:
        """The test episodes."""
        return MeasureConfig(self.episodes, self.queries)

    def training(self, seed: int) -> MetaTrainingConfig:
        """Return the meta-training with a seed: a validation every 10 s, in all 4 to 20."""
        validations = max(4, min(20, int(6 * self.budget)))
        return MetaTrainingConfig(cpu_minutes=self.budget, validations=validations, seed=seed)


@dataclass(frozen=True, eq=False)
class ComparisonData:
    """The classes of a comparison.

    Attributes:
        train: To learn from.
        val: To choose weights and temperature on.
        test: To measure on.
        within_alphabet: Runs of the within-alphabet task; none where classes have no alphabets.
    """

    train: LabelledImages
    val: LabelledImages
    test: LabelledImages
    within_alphabet: list[Episode]


def load_comparison_data(config: ComparisonConfig, data_dir: str | None = None) -> ComparisonData:
    """Load the classes of a comparison.

    Args:
        config: The comparison.
        data_dir: Folder of data sets, if not the usual one.

    Returns:
        The classes, without those that the official runs are of where these are used.

    Raises:
        UserError: If the data are not there, or have too few classes or images.
    """
    data = DataConfig(name=config.dataset, data_dir=data_dir, drop_context=True)
    if config.lake_runs is not None and config.dataset != "omniglot":
        raise UserError(f"lake_runs: only for the data set 'omniglot', got {config.dataset!r}")
    official = None if config.lake_runs is None else official_runs(user_path(config.lake_runs))
    train, val, test = (load_dataset(data, split) for split in ("train", "val", "test"))
    if official is not None:
        train, val = without_evaluation_alphabets(train), without_evaluation_alphabets(val)
    settings_for(test, config.measuring)
    return ComparisonData(train, val, test, drawn_runs(test) if official is None else official)


def open_comparison(directory: Path, config: ComparisonConfig) -> None:
    """Make the directory of a comparison, or check that it is of this one.

    Args:
        directory: The directory.
        config: The comparison.

    Raises:
        UserError: If the directory holds a comparison with other settings, or other files.
    """
    check_writable(directory, "out")
    file, wanted = directory / CONFIG_FILE, dataclasses.asdict(config)
    if not file.is_file():
        if directory.is_dir() and any(directory.iterdir()):
            raise UserError(f"out: {directory} holds other files than a comparison")
        directory.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json.dumps({**wanted, **provenance()}, indent=2).encode() + b"\n")
        return
    held = json.loads(file.read_text(encoding="utf-8"))
    for name, value in wanted.items():
        if held.get(name) != value:
            raise UserError(
                f"out: {directory} holds a comparison with {name} {held.get(name)!r}, not "
                f"{value!r}; name another directory"
            )


def check_systems(names: Sequence[str], data: ComparisonData, config: ComparisonConfig) -> None:
    """Check, before anything is trained, that every system can learn from the data in the budget.

    Args:
        names: Names of the systems.
        data: The classes.
        config: The comparison.

    Raises:
        UserError: If a system needs more classes, more images of one, or more time for one
            validation than half of the budget.
    """
    training = config.training(0)
    one = dataclasses.replace(training, validation_episodes=1)
    for name in names:
        system = build_system(SYSTEMS[name].load(), data.train, 0)
        try:
            system.draw(data.train, 0, torch.Generator().manual_seed(0))
        except UserError as error:
            raise UserError(f"dataset: {name} cannot be trained on it: {error}") from None
        validation_figures(system, data.val, one)  # the first use of torch.func imports much
        start = time.process_time()
        validation_figures(system, data.val, one)
        needed = (time.process_time() - start) * training.validation_episodes
        if needed > 30 * config.budget:
            raise UserError(
                f"budget: one validation of {name} takes about {needed:.1f} s of CPU time, more "
                f"than half of the {60 * config.budget:g} s"
            )


def run_system(
    name: str,
    seed: int,
    data: ComparisonData,
    config: ComparisonConfig,
    directory: Path,
    progress: ProgressCallback | None = None,
) -> Rows:
    """Train and measure a system with a seed, or go on where that was stopped.

    Args:
        name: Name of the system.
        seed: Seed of initialisation and training episodes.
        data: The classes.
        config: The comparison.
        directory: Its directory.
        progress: Told the share of the budget that is spent, in per cent.

    Returns:
        The rows of ``NAME-seedS.jsonl``: of kind validation, measurement and, at the end, cost.
    """
    file = directory / f"{name}-seed{seed}.jsonl"
    state = directory / f"{name}-seed{seed}.state"
    before = read_rows(file)
    if any(row["kind"] == "cost" for row in before):
        return before
    # Without rows that a stop cut short or that will be repeated.
    write_atomically(file, "".join(json.dumps(row) + "\n" for row in before).encode())

    def add(kind: str, **figures: Any) -> None:
        row = {"kind": kind, "system": name, "seed": seed, **figures}
        with file.open("a", encoding="utf-8") as opened:
            opened.write(json.dumps(row) + "\n")

    def on_row(row: dict[str, float], share: float) -> None:
        add("validation", **row)
        if progress is not None:
            progress(f"{name}, seed {seed}", round(100 * share), 100)

    def on_mark(system: System, minutes: float, step: int) -> None:
        figures = measure(system, data.test, data.val, config.measuring, data.within_alphabet)
        add("measurement", cpu_minutes=minutes, step=step, **figures)

    with one_thread():
        system = build_system(SYSTEMS[name].load(), data.train, seed)
        groups = system.optimiser().param_groups
        parameters = sum(p.numel() for group in groups for p in group["params"])
        shares = [mark / config.budget for mark in config.marks]
        meta_train(
            system,
            data.train,
            data.val,
            config.training(seed),
            marks=shares,
            on_mark=on_mark,
            on_row=on_row,
            state_file=state,
        )
        cost = measure_cost(system, data.test, config.measuring)
        add("cost", parameters=parameters, **provenance(), **cost)
    state.unlink(missing_ok=True)
    return read_rows(file)


def read_rows(file: Path) -> Rows:
    """Return the rows of a system and seed; where a stop repeated one, the last of the two.

    Args:
        file: ``NAME-seedS.jsonl``; none need be there. A line that was cut short is left out.
    """
    if not file.is_file():
        return []
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
            rows[row["kind"], row.get("step", -1)] = row
        except (json.JSONDecodeError, KeyError):
            continue
    return list(rows.values())


def read_comparison(directory: Path) -> Rows:
    """Return all rows of a comparison, systems in the order of tables.

    Args:
        directory: The directory.
    """
    rows: Rows = []
    for name in SYSTEMS:
        for file in sorted(directory.glob(f"{name}-seed*.jsonl")):
            rows += read_rows(file)
    return rows
