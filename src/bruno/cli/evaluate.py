"""``bruno evaluate``: measure a model on classes it was not trained on."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

from bruno.cli.console import StageDisplay, output_console, print_json, table
from bruno.data import DataConfig, LabelledImages, load_dataset
from bruno.device import resolve_device
from bruno.errors import MissingDataError, UserError, renamed_argument
from bruno.evaluation.generation import Judge, judge_of, shipped_judge
from bruno.evaluation.interval import Estimate
from bruno.evaluation.suite import ALL, PROTOCOLS, Evaluation, Settings, Subject, check_subject
from bruno.evaluation.suite import evaluate as run_suite
from bruno.evaluation.views import ViewsResult
from bruno.model import Bruno
from bruno.paths import check_new_file, user_path
from bruno.provenance import provenance
from bruno.reporting.view_pictures import draw_views
from bruno.serialization import write_atomically
from bruno.training.locate import LocatedModel, locate_model

EVALUATION_FILE = "evaluation.json"
_ON_OTHER_MACHINES = {"data_dir", "skip_unreadable"}

_optional_fields: Any = dataclasses.make_dataclass(
    "_optional_fields",
    [(name, kind | None, None) for name, kind in get_type_hints(DataConfig).items()],
    frozen=True,
)


class DataOverrides(_optional_fields):
    """The fields of :class:`~bruno.data.DataConfig`, each of which may be left out."""


DataOverrides.__doc__ = DataConfig.__doc__  # the help of the flags


def evaluate(
    run: str | None = None,
    pretrained: str | None = None,
    data: DataOverrides = DataOverrides(),
    split: str = "test",
    protocols: list[str] | None = None,
    ways: list[int] | None = None,
    shots: list[int] | None = None,
    trials: int = 20,
    set_size: int | None = None,
    sets_per_class: int = 1,
    rotations: bool | None = None,
    average_rotations: bool = False,
    lake_runs: str | None = None,
    importance_samples: int = 0,
    probes: bool = False,
    streams: int = 200,
    view_samples: int = 64,
    unconditional: str | None = None,
    judge: str | None = None,
    seed: int = 0,
    out: str | None = None,
    device: str = "auto",
    overwrite: bool = False,
    as_json: bool = False,
) -> None:
    """Measure a model on classes it was not trained on.

    By default that is likelihood and few-shot accuracy; for a conditional model likelihood,
    predictions of new views of an object from a few, and of its pose, with pictures in the
    directory of the run. Pictures of the objects it was trained on are competitors, unless other
    data are named.

    Args:
        run: Directory of a run or of a saved model; by default the newest run in runs/.
        pretrained: Name of a model that comes with the package.
        data: Data to evaluate on, where they are not those of the training.
        split: train, val or test; all of a folder, too.
        protocols: Protocols to run, each with a picture: likelihood, few_shot,
            within_alphabet, anomalies, generation, exchangeability, correlation, latents,
            robustness, views, pose; or all.
        ways: Numbers of classes to choose from; by default 5 and 20, if there are enough classes.
        shots: Numbers of examples per class; by default 1 and 5, if there are enough images.
        trials: How often every class is queried.
        set_size: Images in a set whose likelihood is measured; by default 20, or what the smallest
            class is enough for.
        sets_per_class: Number of such sets of every class; more where there are few classes.
        rotations: Count each class in four rotations; by default as in training.
        average_rotations: Classify by the mean posterior of four decisions, in which query and
            examples are turned together; a decision rule, not the model's own posterior.
        lake_runs: Official runs of the within-alphabet task of Omniglot (all_runs.zip), in place
            of runs drawn from the test alphabets.
        view_samples: For new views: samples that a mean picture is the mean of.
        importance_samples: Noise draws of the importance-weighted likelihood, a figure of its own
            that costs as many times the encoding; 0 leaves it out.
        probes: Measure the likelihood of unusual sets, too: one image again and again, and an image
            of another class in front.
        streams: Number of streams whose planted anomalies are detected.
        unconditional: For conditional models: a run or pretrained model of the same images without
            context, as a competitor.
        judge: For generation: a run or pretrained model that names the samples; by default the
            prototypical network that comes with the package, which is for handwriting.
        seed: Seed of episodes, and of the dequantisation noise of the likelihood.
        out: File for the figures, with pictures beside it that begin with its name; by default
            evaluation.json in the directory of the run.
        device: auto, cpu or cuda.
        overwrite: Replace the file named by out if it is there already; evaluation.json in the
            directory of the run is always replaced by new figures.
        as_json: Print the figures as JSON on standard output.
    """
    device = resolve_device(device)
    located = locate_model(run, pretrained)
    path = user_path(out, "out") if out else located.directory / EVALUATION_FILE
    check_new_file(path, "out", overwrite=overwrite or not out)
    subject = subject_of(
        located, data, split, device, protocols or [], unconditional=unconditional, judge=judge
    )
    if rotations is None:
        rotations = trained_with_rotations(located)
    settings = Settings(
        ways=tuple(ways) if ways else None,
        shots=tuple(shots) if shots else None,
        trials=trials,
        rotations=rotations,
        average_rotations=average_rotations,
        lake_runs=lake_runs,
        set_size=set_size,
        sets_per_class=sets_per_class,
        importance_samples=importance_samples,
        probes=probes,
        streams=streams,
        view_samples=view_samples,
        seed=seed,
    )
    with StageDisplay() as display:
        evaluation = run_suite(subject, settings, protocols=protocols, progress=display)
    competitors = {"unconditional": unconditional, "judge": judge}
    report = {
        "model": located.name,
        **provenance(),
        **evaluation.to_dict(),
        **{role: name for role, name in competitors.items() if name is not None},
    }
    pictures = _pictures(evaluation) if protocols else {}
    if "views" in evaluation.results:
        pictures |= draw_views(subject.model, subject.dataset, seed)
    files = _write(path, report, pictures)
    if as_json:
        print_json(report)
    else:
        print_evaluation(evaluation, str(located.path))
        _print_card(located, evaluation.dataset)
        output_console().print(f"figures written to {', '.join(map(str, files))}")


def subject_of(
    located: LocatedModel,
    data: DataOverrides,
    split: str,
    device: str,
    protocols: Sequence[str],
    *,
    unconditional: str | None = None,
    judge: str | None = None,
) -> Subject:
    """Load a model, its data and its competitors.

    Args:
        located: The model.
        data: Data to evaluate on, where they are not those of the training.
        split: train, val or test.
        device: Device of the models.
        protocols: Names of the protocols to come, some of which need more than others.
        unconditional: Name of a competitor of a conditional model.
        judge: Name of a model that names samples.

    Returns:
        The model with its data and competitors.

    Raises:
        UserError: If something is not there, or does not fit the model.
    """
    subject = Subject(
        located.load().to(device),
        load_dataset(located.data_config(_given(data)), split),
        unconditional=None
        if unconditional is None
        else _load(unconditional, "unconditional", device),
        judge=None if judge is None else judge_of(_load(judge, "judge", device)),
    )
    if judge is None:
        subject = dataclasses.replace(subject, judge=_default_judge(subject, protocols))
    check_subject(subject, located.context_features)
    # The training split of other data has nothing to do with the model.
    if split != "train" and not _given(data).keys() - _ON_OTHER_MACHINES:
        training = _training_set(located, subject, _given(data))
        subject = dataclasses.replace(subject, training=training)
    return subject


def trained_with_rotations(located: LocatedModel) -> bool:
    """Whether the classes of a model were turned in its training."""
    return bool(located.experiment.get("training", {}).get("rotations", False))


def print_evaluation(evaluation: Evaluation, title: str) -> None:
    """Print the figures as tables on standard output.

    Args:
        evaluation: The figures.
        title: Name of the model.
    """
    console = output_console()
    for name, results in evaluation.results.items():
        protocol = PROTOCOLS[name]
        rows = [row for result in results for row in result.rows()]
        about = f"{title} on {evaluation.dataset}, seed {evaluation.seed}: {protocol.summary}"
        console.print(table(about, list(protocol.header), rows))
        for result in results:
            if isinstance(result, ViewsResult):
                _print_pictures_of_views(result)


def _given(data: DataOverrides) -> dict[str, Any]:
    """Return the fields of the data that were given."""
    return {name: value for name, value in data.__dict__.items() if value is not None}


def _load(name: str, option: str, device: str) -> Bruno:
    """Return another model by the name of a pretrained one, or by the directory of a run."""
    is_name = name in Bruno.pretrained()
    with renamed_argument("run", option):
        located = locate_model(None, name) if is_name else locate_model(name, None)
    return located.load().to(device)


def _default_judge(subject: Subject, protocols: Sequence[str]) -> Judge | None:
    """Return the judge that comes with the package, where generation is to be measured."""
    if "generation" not in protocols and ALL not in protocols:
        return None
    try:
        return shipped_judge(subject.model.event_shape)
    except UserError:
        if "generation" in protocols:
            raise
        return None


def _pictures(evaluation: Evaluation) -> dict[str, bytes]:
    """Return the pictures of the protocols by the ends of their names."""
    from bruno.reporting.figures import to_png
    from bruno.reporting.protocol_pictures import PICTURES

    return {
        f"{name.replace('_', '-')}.png": to_png(PICTURES[name](results))
        for name, results in evaluation.results.items()
        if name in PICTURES and not (name == "likelihood" and "views" in evaluation.results)
    }


def _training_set(
    located: LocatedModel, subject: Subject, given: dict[str, Any]
) -> LabelledImages | None:
    """Return the images a model was trained on, if they are there and are needed."""
    if not subject.is_conditional and subject.judge is None:
        return None
    try:
        return load_dataset(located.data_config(given), "train")
    except MissingDataError:
        return None


def _write(path: Path, report: dict[str, Any], pictures: dict[str, bytes]) -> list[Path]:
    """Write the figures, and pictures beside them; return the files."""
    files = {path: json.dumps(report, indent=2).encode() + b"\n"}
    files |= {path.with_name(f"{path.stem}-{name}"): image for name, image in pictures.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, content in files.items():
        write_atomically(file, content)
    return list(files)


def _print_pictures_of_views(views: ViewsResult) -> None:
    """Print the errors of pictures of new views, beside competitors."""
    names = list(views.by_given[-1].pictures)
    for figure, meaning in (("rmse", "root mean squared error"), ("ssim", "structural similarity")):
        rows = []
        for one in views.by_given:
            values = [getattr(one.pictures.get(name), figure, None) for name in names]
            rows.append(
                [
                    f"{one.given}",
                    *(f"{v.mean:.3f} ± {v.half_width:.3f}" if v else "" for v in values),
                ]
            )
        output_console().print(table(f"{meaning} of pictures", ["views given", *names], rows))


def _print_card(located: LocatedModel, dataset: str) -> None:
    """Print the figures of the card of a model for the same data, if it has some."""
    card = located.card.get("figures")
    if card is None or card["dataset"] != dataset:
        return
    claimed = [f"{Estimate(**card['nll'])} nats"]
    claimed += [
        f"{row['way']}-way {row['shot']}-shot {Estimate(**row['accuracy'])} %"
        for row in card["few_shot"]
    ]
    claimed += [
        f"{row['given']} views given {Estimate(**row['nll'])} nats per view"
        for row in card.get("views", [])
    ]
    output_console().print(f"card of the model: {', '.join(claimed)}")
