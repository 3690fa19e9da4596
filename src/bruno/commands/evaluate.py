"""``bruno evaluate``: likelihood and few-shot accuracy of a model, on classes it never saw."""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import platform
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch

from bruno.commands.locate import locate_model
from bruno.commands.views import ViewsEvaluation, draw_views, evaluate_views, print_views
from bruno.console import StageDisplay, output_console, print_json, table
from bruno.data import DataConfig, LabelledImages, load_dataset
from bruno.data.context import check_same_labels
from bruno.device import resolve_device
from bruno.errors import MissingDataError, UserError, renamed_argument
from bruno.evaluation import (
    Estimate,
    FewShotResult,
    LikelihoodResult,
    encode_rotations,
    few_shot_accuracy,
    likelihood,
)
from bruno.evaluation.progress import ProgressCallback
from bruno.evaluation.trials import check_trials
from bruno.evaluation.views import check_conditional, check_unconditional
from bruno.model import Bruno
from bruno.paths import check_new_file, user_path
from bruno.serialization import write_atomically

EVALUATION_FILE = "evaluation.json"
_WAYS, _SHOTS = (5, 20), (1, 5)


@dataclass(frozen=True)
class DataOverrides:
    """What to evaluate on, where it is not what the model was trained on.

    Attributes:
        name: Data set; by default the one the model was trained on.
        root: Folder with one sub-folder of images per class; for the data set folder only.
        data_dir: Folder that holds the downloaded data sets.
        image_size: Height and width to bring images to, in pixels; for folder only.
        channels: Grey or colour images; for folder only.
        invert: Turn dark ink on white paper into bright ink on black; for folder only.
        skip_bad: Leave out files that are no readable images, with a warning; for folder only.
        labels: CSV file with a row per image: its labels for a conditional model; for folder only.
        angles: Which of these labels are angles in degrees; for folder only.
        unlabelled: Leave out the labels, for an unconditional model.
        test_classes: Names of the classes to keep; by default those of the training recipe.
    """

    name: str | None = None
    root: str | None = None
    data_dir: str | None = None
    image_size: int | None = None
    channels: Literal["grey", "colour"] | None = None
    invert: bool | None = None
    skip_bad: bool | None = None
    labels: str | None = None
    angles: list[str] | None = None
    unlabelled: bool | None = None
    test_classes: list[str] | None = None

    def given(self) -> dict[str, Any]:
        """Return the fields that were given."""
        return {name: value for name, value in self.__dict__.items() if value is not None}


@dataclass(frozen=True)
class Evaluation:
    """Everything ``bruno evaluate`` measures."""

    likelihood: LikelihoodResult
    few_shot: list[FewShotResult]
    seconds: float
    views: ViewsEvaluation | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return {
            "likelihood": self.likelihood.to_dict(),
            "few_shot": [result.to_dict() for result in self.few_shot],
            **({} if self.views is None else self.views.to_dict()),
            "seconds": round(self.seconds, 1),
        }


def evaluate_model(
    model: Bruno,
    dataset: LabelledImages,
    *,
    ways: list[int],
    shots: list[int],
    trials: int,
    set_size: int,
    rotations: bool,
    seed: int,
    sets_per_class: int = 1,
    importance_samples: int = 0,
    progress: ProgressCallback | None = None,
) -> Evaluation:
    """Measure likelihood, and accuracy at every way and shot, encoding every image once for each.

    Sets of the likelihood are not rotated, as published; they have ``set_size`` images, or as
    many as the smallest class has. Several sets per class, each in another order, smooth the
    curve over positions.
    """
    start = time.perf_counter()
    for way in ways:
        for shot in shots:
            check_trials(dataset, way, shot, trials)
    nats = likelihood(
        model,
        dataset,
        set_size=min(set_size, int(dataset.class_sizes.min())),
        sets=sets_per_class * dataset.num_classes,
        seed=seed,
        importance_samples=importance_samples,
        progress=progress,
    )
    encoded = None
    if ways:
        encoded = encode_rotations(model, dataset, rotations=rotations, progress=progress)
    few_shot = [
        few_shot_accuracy(
            model,
            dataset,
            way=way,
            shot=shot,
            rotations=rotations,
            trials=trials,
            seed=seed,
            encoded=encoded,
            progress=progress,
        )
        for way in ways
        for shot in shots
    ]
    return Evaluation(nats, few_shot, time.perf_counter() - start)


def evaluate(
    run: str | None = None,
    pretrained: str | None = None,
    data: DataOverrides = DataOverrides(),
    split: str = "test",
    ways: list[int] | None = None,
    shots: list[int] | None = None,
    trials: int = 20,
    set_size: int = 20,
    sets_per_class: int = 1,
    rotations: bool | None = None,
    importance_samples: int = 0,
    unconditional: str | None = None,
    seed: int = 0,
    out: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Measure a model on classes it was not trained on.

    That is likelihood and few-shot accuracy; for a conditional model likelihood, and how well new
    views of an object are predicted from a few, with pictures in the directory of the run. It is
    compared with pictures of the objects it was trained on, unless other data are named.

    Args:
        run: Directory of a run or of a saved model; by default the newest run in runs/.
        pretrained: Name of a model that comes with the package.
        data: What to evaluate on.
        split: train, val or test.
        ways: Numbers of classes to choose from; by default 5 and 20, as far as there are so many.
        shots: Numbers of examples per class; by default 1 and 5, as far as there are so many.
        trials: How often every class is queried.
        set_size: Images in a set whose likelihood is measured.
        sets_per_class: Number of such sets of every class; more where there are few classes.
        rotations: Count each class in four rotations; by default as in training.
        importance_samples: Noise draws of the importance-weighted likelihood, a figure of its own
            that costs as many times the encoding; 0 leaves it out.
        unconditional: For conditional models: a run or pretrained model of the same images without
            labels, as a competitor.
        seed: Seed of episodes, and of the dequantisation noise of the likelihood.
        out: File for the figures, with pictures beside it that begin with its name; by default
            evaluation.json in the directory of the run.
        device: auto, cpu or cuda.
        overwrite: Replace the file named by out if it is there already; evaluation.json in the
            directory of the run always makes place for new figures.
        as_json: Print the figures as JSON on standard output.
    """
    device = resolve_device(device)
    located = locate_model(run, pretrained)
    path = user_path(out, "out") if out else located.directory / EVALUATION_FILE
    check_new_file(path, "out", overwrite=overwrite or not out)
    model = located.load().to(device)
    dataset = load_dataset(located.data_config(data.given()), split)
    if dataset.event_shape != model.event_shape:
        raise UserError(
            f"data: expected images of shape {model.event_shape}, which the model takes, got "
            f"{dataset.event_shape} from {dataset.name}"
        )
    if rotations is None:
        rotations = bool(located.experiment.get("training", {}).get("rotations", False))
    conditional = model.flow.context_dim > 0
    competitor = None
    if unconditional is not None:
        if not conditional:
            raise UserError(f"unconditional: {located.path} takes no context itself")
        competitor = _load(unconditional).to(device)
        check_unconditional(competitor, dataset)
    if conditional:
        check_conditional(model, dataset)
        if located.context_labels:
            source = f"{dataset.name}/{dataset.split}"
            check_same_labels("data", source, dataset.context_labels, located.context_labels)
    if conditional and ways is None:
        ways = []
    if ways is None:
        ways = [way for way in _WAYS if way <= dataset.num_classes] or [dataset.num_classes]
    if shots is None:
        shots = [shot for shot in _SHOTS if shot < int(dataset.class_sizes.min())] or [1]
    start = time.perf_counter()
    with StageDisplay() as display:
        evaluation = evaluate_model(
            model,
            dataset,
            ways=ways,
            shots=shots,
            trials=trials,
            set_size=set_size,
            sets_per_class=sets_per_class,
            rotations=rotations,
            seed=seed,
            importance_samples=importance_samples,
            progress=display,
        )
        if conditional:
            # The training split of other data is nothing the model was trained on.
            is_own = split != "train" and not data.given().keys() - {"data_dir", "skip_bad"}
            views = evaluate_views(
                model,
                dataset,
                _training_set(located.data_config(data.given())) if is_own else None,
                unconditional=competitor,
                seed=seed,
                progress=display,
            )
            evaluation = dataclasses.replace(
                evaluation, views=views, seconds=time.perf_counter() - start
            )
    report = {"model": str(located.path), **provenance(), **evaluation.to_dict()}
    if unconditional is not None:
        report["unconditional"] = unconditional
    pictures = draw_views(model, dataset, seed) if conditional else {}
    files = {path: json.dumps(report, indent=2).encode() + b"\n"}
    files |= {path.with_name(f"{path.stem}-{name}"): image for name, image in pictures.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        write_atomically(file, content)
    if as_json:
        print_json(report)
    else:
        print_evaluation(evaluation, str(located.path), located.card.get("figures"))
        written = ", ".join(map(str, files))
        output_console().print(f"figures written to {written}")


def _load(name: str) -> Bruno:
    """Return a competitor by the name of a pretrained model, or by the directory of a run."""
    is_name = name in Bruno.pretrained()
    with renamed_argument("run", "unconditional"):
        return (locate_model(None, name) if is_name else locate_model(name, None)).load()


def _training_set(config: DataConfig) -> LabelledImages | None:
    """Return the objects a model was trained on, if they are there."""
    try:
        return load_dataset(config, "train")
    except MissingDataError:
        return None


def provenance() -> dict[str, Any]:
    """Return where and when figures were measured."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "torch": torch.__version__,
    }


def print_evaluation(
    evaluation: Evaluation, title: str, card: dict[str, Any] | None = None
) -> None:
    """Print the figures as tables on standard output, beside those of a model card if given."""
    nats = evaluation.likelihood
    if card is None or card["dataset"] != nats.dataset:
        card = {}
    rows = [
        ["all positions", f"{nats.nats}", f"{nats.bits_per_dim.mean:.3f}"],
        ["first (prior)", f"{nats.first}", ""],
        [f"last (given {nats.set_size - 1})", f"{nats.last}", ""],
        ["gained by conditioning", f"{nats.gain}", ""],
    ]
    if nats.importance_weighted is not None:
        name = f"importance-weighted, {nats.importance_samples} noise draws"
        rows.append([name, f"{nats.importance_weighted}", ""])
    console = output_console()
    console.print(
        table(
            f"{title}: negative log-likelihood, {nats.sets} sets of {nats.set_size} from "
            f"{nats.dataset}, seed {nats.seed}",
            ["position in the set", "nats per image", "bits/dim"],
            rows,
        )
    )
    if evaluation.few_shot:
        console.print(
            table(
                f"few-shot accuracy on {nats.dataset}, 95 % intervals",
                ["episodes", "accuracy %", "decisions"],
                [
                    [f"{r.way}-way {r.shot}-shot", f"{r.accuracy}", f"{r.decisions}"]
                    for r in evaluation.few_shot
                ],
            )
        )
    if evaluation.views is not None:
        print_views(evaluation.views, title)
    if card:
        claimed = [
            f"{row['way']}-way {row['shot']}-shot {Estimate(**row['accuracy'])} %"
            for row in card["few_shot"]
        ]
        claimed += [
            f"{row['given']} views given {Estimate(**row['nats'])} nats per view"
            for row in card.get("views", [])
        ]
        console.print(
            f"the card of the model says: {Estimate(**card['nats'])} nats; {', '.join(claimed)}"
        )
