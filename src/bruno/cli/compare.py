"""``bruno compare``: few-shot systems side by side at the same cost."""

from __future__ import annotations

import io
import re
from pathlib import Path

from bruno.baselines.registry import SYSTEMS, chosen_systems
from bruno.cli.console import StageDisplay, output_console, print_json, progress_console, table
from bruno.comparison.run import (
    ComparisonConfig,
    check_systems,
    load_comparison_data,
    open_comparison,
    read_comparison,
    run_system,
)
from bruno.comparison.summary import (
    accuracy_table,
    as_markdown,
    cost_table,
    main_task,
    probability_table,
    published_table,
)
from bruno.errors import UserError
from bruno.paths import user_path
from bruno.reporting.comparison_plot import comparison_figure
from bruno.serialization import write_atomically
from bruno.validation import check_whole

_MINUTES = {"s": 1 / 60, "m": 1.0, "h": 60.0}


def compare(
    systems: list[str] | None = None,
    dataset: str = "omniglot",
    data_dir: str | None = None,
    budget: str = "15m",
    seeds: int = 1,
    first_seed: int = 0,
    episodes: int = 100,
    queries: int = 5,
    lake_runs: str | None = None,
    out: str | None = None,
    as_json: bool = False,
) -> None:
    """Train few-shot systems on the same classes at the same CPU time, and compare them.

    A comparison that was stopped goes on where it was. Other systems or seeds are added to those
    in the directory, also by a second command at the same time.

    Args:
        systems: Systems to compare, or all.
        dataset: Data set with training, validation and test classes, such as omniglot or glyphs.
        data_dir: Folder that holds downloaded data sets.
        budget: CPU time of the training of each system and seed, as 90s, 15m or 1h.
        seeds: Number of seeds of each system.
        first_seed: First of the seeds.
        episodes: Test episodes of each task.
        queries: Queries of each class in an episode.
        lake_runs: Official runs of the within-alphabet task of Omniglot (all_runs.zip), in place
            of runs drawn from test classes.
        out: Directory of the comparison; by default runs/compare-DATASET-BUDGET.
        as_json: Print all rows as JSON on standard output.
    """
    names = chosen_systems(systems or ["all"])
    check_whole("seeds", seeds, 1)
    check_whole("first_seed", first_seed, 0)
    config = ComparisonConfig(dataset, minutes_of(budget), episodes, queries, lake_runs)
    directory = user_path(out, "out") if out else Path("runs") / f"compare-{dataset}-{budget}"
    data = load_comparison_data(config, data_dir)
    check_systems(names, data, config)
    open_comparison(directory, config)
    for seed in range(first_seed, first_seed + seeds):
        for name in names:
            with StageDisplay() as display:
                run_system(name, seed, data, config, directory, display)
            progress_console().print(f"{SYSTEMS[name].load().title}, seed {seed}: done")
    rows = read_comparison(directory)
    tables = [
        accuracy_table(rows),
        probability_table(rows),
        cost_table(rows),
        published_table(rows),
    ]
    picture = io.BytesIO()
    comparison_figure(rows, *main_task(rows)).savefig(picture, format="png")
    write_atomically(directory / "accuracy.png", picture.getvalue())
    text = "\n".join(as_markdown(one) for one in tables)
    write_atomically(directory / "tables.md", text.encode())
    if as_json:
        print_json(rows)
        return
    for title, header, body in tables:
        output_console().print(table(f"{dataset}, {budget} each: {title}", header, body))
    output_console().print(f"tables.md and accuracy.png are in {directory}")


def minutes_of(budget: str) -> float:
    """Return the minutes of a length of time such as ``90s``, ``15m`` or ``1h``.

    Args:
        budget: The length.

    Raises:
        UserError: If it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh])", budget.strip())
    if found is None or float(found[1]) == 0:
        raise UserError(f"budget: expected a length of time such as 90s, 15m or 1h, got {budget!r}")
    return float(found[1]) * _MINUTES[found[2]]
