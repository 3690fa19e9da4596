"""``bruno report``: measure a model by every protocol and write one page about it."""

from __future__ import annotations

import json
from typing import Any

from bruno.cli.console import StageDisplay, output_console, print_json, progress_console
from bruno.cli.evaluate import (
    EVALUATION_FILE,
    DataOverrides,
    print_evaluation,
    subject_of,
    trained_with_rotations,
)
from bruno.data import LabelledImages, load_dataset
from bruno.device import resolve_device
from bruno.errors import MissingDataError
from bruno.evaluation.suite import ALL, Settings, evaluate
from bruno.model import Bruno
from bruno.paths import check_new_file, user_path
from bruno.provenance import provenance
from bruno.reporting.page import write_report
from bruno.reporting.report import experiment_report
from bruno.serialization import write_atomically
from bruno.training.locate import LocatedModel, locate_model
from bruno.training.run_directory import HISTORY_FILE
from bruno.training.runs import read_history

REPORT_FILE = "report.html"


def report(
    run: str,
    data: DataOverrides = DataOverrides(),
    split: str = "test",
    protocols: list[str] | None = None,
    trials: int = 5,
    streams: int = 100,
    sets_per_class: int = 1,
    seed: int = 0,
    out: str | None = None,
    device: str = "auto",
    as_json: bool = False,
) -> None:
    """Measure a model by every protocol that applies, and write one self-contained page.

    The page holds a sentence, a picture and a table for every protocol, with the level of chance
    and of real data beside the figures, samples, the training and all settings. The figures are
    also written to evaluation.json beside it.

    Args:
        run: Directory of a run or of a saved model, or the name of one that comes with the package.
        data: Data to evaluate on, where they are not those of the training.
        split: train, val or test; all of a folder, too.
        protocols: Protocols to run; by default all that apply.
        trials: How often every class is queried in few-shot classification.
        streams: Number of streams whose planted anomalies are detected.
        sets_per_class: Number of sets of every class whose likelihood is measured.
        seed: Seed of sets, episodes, noise and samples.
        out: The page; by default report.html in the directory of the run. A page that is there is
            replaced.
        device: auto, cpu or cuda.
        as_json: Print the figures as JSON on standard output.
    """
    device = resolve_device(device)
    located = locate_model(None, run) if run in Bruno.pretrained() else locate_model(run, None)
    page = user_path(out, "out") if out else located.directory / REPORT_FILE
    check_new_file(page, "out", overwrite=True)
    chosen = protocols or [ALL]
    subject = subject_of(located, data, split, device, chosen)
    settings = Settings(
        trials=trials,
        rotations=trained_with_rotations(located),
        sets_per_class=sets_per_class,
        probes=not subject.is_conditional and subject.dataset.num_classes > 1,
        streams=streams,
        seed=seed,
    )
    with StageDisplay() as display:
        evaluation = evaluate(subject, settings, protocols=chosen, progress=display)
    progress_console().print("drawing the page …")
    name = located.path.name if run in Bruno.pretrained() else located.directory.name
    html = experiment_report(
        subject.model,
        _training_data(located),
        subject.dataset,
        _history(located),
        evaluation,
        {**located.experiment, "card": _card(located)},
        title=f"{name} on {evaluation.dataset}",
        command=f"bruno report {run}",
        trained_classes=_has_trained_classes(located, subject.dataset),
    )
    write_report(page, html)
    figures = {"model": located.name, **provenance(), **evaluation.to_dict()}
    content = json.dumps(figures, indent=2).encode() + b"\n"
    write_atomically(page.with_name(EVALUATION_FILE), content)
    if as_json:
        print_json({"report": str(page), **figures})
    else:
        print_evaluation(evaluation, name)
        output_console().print(f"report: {page.resolve()}")


def _has_trained_classes(located: LocatedModel, dataset: LabelledImages) -> bool:
    """Return whether a class of the data is one that the model was trained on.

    Data sets such as digits are split by image, not by class.
    """
    if dataset.name != located.dataset_name:
        return False
    try:
        training = load_dataset(located.data_config({}), "train")
    except MissingDataError:
        return False
    return not set(training.class_names).isdisjoint(dataset.class_names)


def _history(located: LocatedModel) -> list[dict[str, float | str]]:
    """Return the training log of a run; models that come with the package have none."""
    has_one = (located.directory / HISTORY_FILE).exists()
    return read_history(located.directory) if has_one else []


def _training_data(located: LocatedModel) -> str:
    """Return a description of the data a model was trained on."""
    data = located.experiment.get("data", {})
    classes = data.get("train_classes")
    chosen = f", classes {', '.join(classes)}" if classes else ""
    return f"{data.get('name', 'unknown')}{chosen}"


def _card(located: LocatedModel) -> dict[str, Any]:
    """Return how a model that comes with the package was made, without its figures."""
    return {name: value for name, value in located.card.items() if name != "figures"}
