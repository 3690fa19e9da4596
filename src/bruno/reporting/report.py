"""A page about one model: what was measured, with pictures, and how it was made."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise
from bruno.errors import UserError
from bruno.evaluation.protocols import PROTOCOLS
from bruno.evaluation.streams import Stream
from bruno.evaluation.suite import Evaluation
from bruno.model import Bruno
from bruno.reporting import plots
from bruno.reporting.page import Picture, Section, Table, render_report
from bruno.reporting.protocol_pictures import PICTURES
from bruno.reporting.protocol_texts import TERMS, lead_of, sentence_of, tiles_of
from bruno.seeding import generator_for

_ROWS, _GIVEN = 8, (1, 5, 10)
_LATENT_SCALES = {1.0: 4, 0.5: 4, 0.0: 1}  # to the number of samples shown
_PRIOR_ROWS, _PRIOR_COLUMNS = 4, 10


def experiment_report(
    model: Bruno,
    training_data: str,
    test_dataset: LabelledImages,
    history: Sequence[Mapping[str, Any]],
    evaluation: Evaluation,
    config: Mapping[str, Any],
    *,
    title: str,
    command: str,
    trained_classes: bool = False,
) -> str:
    """Return the page about one trained model: results, samples, training and settings.

    Args:
        model: The trained image model.
        training_data: Description of the training data.
        test_dataset: Images to draw samples for, those that were measured.
        history: Rows of the training log, as
            :func:`~bruno.reporting.plots.plot_training_curve` takes them; ``images`` and
            ``seconds`` of a row count from the start of the training.
        evaluation: Results of the protocols; may be of none. Its seed is that of the pictures, too.
        config: Everything the training was configured with.
        title: Title of the page.
        command: Command line that makes the page again.
        trained_classes: Whether some classes of the test data were trained on.

    Raises:
        UserError: If the model does not take the images of the test data.
    """
    if model.event_shape != test_dataset.event_shape:
        raise UserError(
            f"test_dataset: expected images of shape {model.event_shape}, got "
            f"{test_dataset.event_shape}"
        )
    date = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    where = f"{platform.platform()}, {os.cpu_count()} CPUs, torch {torch.__version__}"
    seed = evaluation.seed
    first, *further = _samples(model, test_dataset, seed)
    sections = [
        Section("Examples given, and samples of the model", _ABOUT_SAMPLES, pictures=(first,)),
        *_protocol_sections(evaluation),
        *_training_sections(history),
        Section("More samples", pictures=tuple(further), folded=True),
        _model_section(model, training_data, test_dataset, history, seed, command, trained_classes),
        _config_section(config),
    ]
    return render_report(
        title,
        sections,
        f"{date} · seed {seed} · {where}",
        lead=lead_of(evaluation, test_dataset, trained_classes),
        tiles=tiles_of(evaluation),
    )


_ABOUT_SAMPLES = (
    "Classes were drawn at random; none was left out. Samples at latent scale 1 are exact. Below 1 "
    "their deviations from the mean shrink, for more typical and less varied images; 0 is the "
    "image of the mean itself."
)


def _protocol_sections(evaluation: Evaluation) -> list[Section]:
    """Return a section for every protocol: a sentence, a picture, a table, and terms."""
    sections = []
    for name, results in evaluation.results.items():
        protocol = PROTOCOLS[name]
        rows = tuple(tuple(row) for result in results for row in result.rows())
        pictures: tuple[Picture, ...] = ()
        summary = protocol.summary[0].upper() + protocol.summary[1:]
        if name in PICTURES:
            pictures = (Picture(PICTURES[name](results), f"{summary}."),)
        sections.append(
            Section(
                summary,
                sentence_of(name, results),
                Table(protocol.header, rows),
                pictures,
                TERMS.get(name, ()),
            )
        )
    return sections


def _model_section(
    model: Bruno,
    training_data: str,
    test_dataset: LabelledImages,
    history: Sequence[Mapping[str, Any]],
    seed: int,
    command: str,
    trained_classes: bool,
) -> Section:
    origin = "seen" if trained_classes else "never seen"
    trained = [row for row in history if row.get("kind") == "train"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows: list[tuple[object, ...]] = [
        ("training data", training_data),
        (
            "test data",
            f"{test_dataset.name}/{test_dataset.split}: {len(test_dataset):,} images of "
            f"{test_dataset.num_classes} classes {origin} in training",
        ),
        ("flow", f"preset {model.flow.preset}, images of {model.event_shape}"),
        ("process", type(model.process).__name__),
        ("parameters", f"{parameters:,}"),
    ]
    if trained:
        last = trained[-1]
        rows += [
            ("steps", f"{last['step']:,}"),
            ("images seen", f"{last['images']:,}"),
            ("wall time", _duration(last["seconds"])),
        ]
    rows += [("seed", seed), ("command", command)]
    return Section("Model and settings", table=Table((), tuple(rows)), folded=True)


def _training_sections(history: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Return the section about the training; none where there is no log of it."""
    captions: dict[plots.Quantity, str] = {
        "nll": "Negative log-likelihood per image during training.",
        "accuracy": "Few-shot accuracy on episodes during training.",
    }
    pictures = tuple(
        Picture(plots.plot_training_curve(history, quantity=quantity), caption)
        for quantity, caption in captions.items()
        if any(len(plots.history_series(history, kind, quantity)[0]) for kind in plots.KINDS)
    )
    return [Section("Training", pictures=pictures)] if pictures else []


def _config_section(config: Mapping[str, Any]) -> Section:
    rows = tuple(_flattened(config))
    return Section("Configuration", table=Table(("option", "value"), rows), folded=True)


def _samples(model: Bruno, dataset: LabelledImages, seed: int) -> list[Picture]:
    """Return pictures of samples given some examples, the most telling first, and of the prior."""
    generator = generator_for(seed, Stream.REPORT_PICTURES)
    order = torch.randperm(dataset.num_classes, generator=generator, device="cpu")
    classes = [int(index) for index in order if dataset.class_sizes[index] > 0][:_ROWS]
    available = min(int(dataset.class_sizes[index]) for index in classes)
    labels = [dataset.class_names[index] for index in classes]
    pictures = {}
    for given in sorted({min(number, available) for number in _GIVEN}):
        rows = torch.stack([dataset.indices_of(index)[:given] for index in classes])
        samples = _samples_given(model, dataset, rows, generator)
        axes = plots.plot_samples_given(dataset.images[rows], samples, row_labels=labels)
        plural = "s" if given > 1 else ""
        caption = f"{given} given example{plural} of each class, and samples of the model."
        pictures[given] = Picture(axes, caption, wide=True)
    number = _PRIOR_ROWS * _PRIOR_COLUMNS
    context = _contexts(model, dataset, (number,), generator)
    prior = model.prior().sample(number, context, generator)
    caption = "Samples of the prior, without any example."
    drawn = Picture(plots.plot_prior_samples(prior, columns=_PRIOR_COLUMNS), caption)
    best = 5 if 5 in pictures else max(pictures)
    return [pictures.pop(best), *pictures.values(), drawn]


def _samples_given(
    model: Bruno, dataset: LabelledImages, rows: Tensor, generator: torch.Generator
) -> dict[str, Tensor]:
    """Return samples by heading, each ``(sets, m, *event)``, after seeing images ``(sets, n)``."""
    device = model.device
    context = None if dataset.context is None else dataset.context[rows].to(device)
    with torch.no_grad():
        seen = dequantise(dataset.images[rows], generator).to(device)
        predictive = model.condition(seen, context)
    samples = {}
    for latent_scale, number in _LATENT_SCALES.items():
        new_context = _contexts(model, dataset, (number, len(rows)), generator)
        drawn = predictive.sample(number, new_context, generator, latent_scale)
        samples[f"latent scale {latent_scale:g}"] = drawn.transpose(0, 1)
    return samples


def _contexts(
    model: Bruno, dataset: LabelledImages, shape: tuple[int, ...], generator: torch.Generator
) -> Tensor | None:
    """Return contexts of random images of the data, for conditional models."""
    if dataset.context is None:
        return None
    chosen = torch.randint(len(dataset), shape, generator=generator, device="cpu")
    return dataset.context[chosen].to(model.device)


def _flattened(config: Mapping[str, Any], prefix: str = "") -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += _flattened(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min {rest:02d} s" if hours else f"{minutes} min {rest:02d} s"
