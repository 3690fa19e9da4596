"""One self-contained HTML page about an experiment: no scripts, no network, readable on paper."""

from __future__ import annotations

import base64
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise
from bruno.errors import UserError
from bruno.evaluation.correlation import correlated_dimensions
from bruno.evaluation.few_shot import FewShotResult
from bruno.evaluation.set_likelihood import LikelihoodResult
from bruno.evaluation.streams import Stream
from bruno.model import Bruno
from bruno.paths import user_path
from bruno.reporting import plots
from bruno.seeding import generator_for
from bruno.serialization import write_atomically

_STYLE = """
:root { color-scheme: light dark; --ink: #1c1e21; --soft: #5d6470; --line: #d9dce1; --page: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e8eb; --soft: #a0a8b4; --line: #3a3f47; --page: #16181c; }
}
body { color: var(--ink); background: var(--page); max-width: 80rem; margin: 2rem auto;
  padding: 0 1rem; font: 16px/1.55 system-ui, sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin-bottom: .25rem; }
h2 { font-size: 1.2rem; margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
p, .wide { max-width: 56rem; }
p { white-space: pre-line; }
figure { margin: 1.25rem 0; break-inside: avoid; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 6px; padding: 8px;
  box-sizing: border-box; }
figcaption, .note { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .95rem; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; overflow-wrap: anywhere; }
th { font-weight: 600; }
@media print { body { max-width: none; margin: 0; font-size: 11pt; }
  h2 { break-after: avoid; } tr { break-inside: avoid; }
  :root { --ink: #000; --soft: #444; --line: #bbb; --page: #fff; } }
"""

_ROWS, _GIVEN = 8, (1, 4, 10)
_LATENT_SCALES = {0.0: 1, 0.5: 4, 1.0: 4}  # to the number of samples shown
_PRIOR_ROWS, _PRIOR_COLUMNS = 4, 10


@dataclass(frozen=True)
class Table:
    """A table of plain text; the first column names the rows.

    Attributes:
        header: Column headings.
        rows: Cells; :func:`str` of each is shown.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]


@dataclass(frozen=True)
class Picture:
    """A drawing with its description.

    Attributes:
        axes: Axes of the figure, which is shown as a whole.
        caption: Shown below, and read out where pictures cannot be seen.
    """

    axes: Axes
    caption: str


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        heading: Its heading.
        text: Text at the top; a newline starts a new line.
        table: A table after the text.
        pictures: Pictures after the table.
    """

    heading: str
    text: str = ""
    table: Table | None = None
    pictures: tuple[Picture, ...] = ()


def render_report(title: str, sections: Sequence[Section], note: str = "") -> str:
    """Return a complete HTML page; every string given is escaped.

    Args:
        title: Title of the page.
        sections: Its sections.
        note: A line in small print below the title.
    """
    body = "\n".join(_section_html(section) for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="note">{escape(note)}</p>\n{body}\n</body>\n</html>\n'
    )


def write_report(path: str | Path, html: str) -> None:
    """Write a page to a file, which appears whole or not at all.

    Args:
        path: The file.
        html: The page.

    Raises:
        UserError: If the file cannot be written.
    """
    path = user_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, html.encode())
    except OSError as error:
        raise UserError(f"path: cannot write {str(path)!r}: {error}") from None


def experiment_report(
    model: Bruno,
    training_data: str,
    test_dataset: LabelledImages,
    history: Sequence[Mapping[str, Any]],
    few_shot_results: Sequence[FewShotResult],
    likelihood_result: LikelihoodResult | None,
    config: Mapping[str, Any],
    *,
    seed: int,
    command: str,
) -> str:
    """Return the page about one trained model: configuration, results and samples.

    Args:
        model: The trained image model.
        training_data: Description of the training data.
        test_dataset: Images of classes it has never seen.
        history: Rows of the training log, as
            :func:`~bruno.reporting.plots.plot_training_curve` takes them; ``images`` and
            ``seconds`` of a row count from the start of the training.
        few_shot_results: Accuracies; may be empty.
        likelihood_result: Test likelihood, or ``None``.
        config: Everything the training was configured with.
        seed: Seed of the training, and of the pictures.
        command: Command line that makes the model again.

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
    sections = [
        _summary_section(model, training_data, test_dataset, history, seed, command),
        _results_section(few_shot_results, likelihood_result),
        _pictures_section(model, test_dataset, seed),
        _training_section(history),
    ]
    if likelihood_result is not None:
        sections.append(_set_size_section(likelihood_result))
    sections += [_correlation_section(model), _config_section(config)]
    return render_report(
        f"bruno on {test_dataset.name}", sections, f"{date} · seed {seed} · {where}"
    )


def _summary_section(
    model: Bruno,
    training_data: str,
    test_dataset: LabelledImages,
    history: Sequence[Mapping[str, Any]],
    seed: int,
    command: str,
) -> Section:
    trained = [row for row in history if row.get("kind") == "train"]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    rows: list[tuple[object, ...]] = [
        ("training data", training_data),
        (
            "test data",
            f"{test_dataset.name}/{test_dataset.split}: {len(test_dataset):,} images of "
            f"{test_dataset.num_classes} classes never seen in training",
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
    return Section("Model", table=Table((), tuple(rows)))


def _results_section(
    few_shot_results: Sequence[FewShotResult], result: LikelihoodResult | None
) -> Section:
    rows: list[tuple[object, ...]] = []
    for shots in few_shot_results:
        rotated = " in 4 rotations" if shots.rotations else ""
        rows.append(
            (
                f"{shots.way}-way {shots.shot}-shot accuracy",
                f"{shots.accuracy} %",
                f"{shots.decisions:,} decisions: {shots.trials} trials of every class{rotated}",
                shots.seed,
            )
        )
    if result is not None:
        sets = f"{result.sets} sets of {result.set_size} images"
        rows += [
            ("negative log-likelihood", f"{result.nll} nats per image", sets, result.seed),
            ("the same", f"{_precise(result)} bits/dim", sets, result.seed),
            ("without any example", f"{result.first} nats", "position 1", result.seed),
            ("last of the set", f"{result.last} nats", f"position {result.set_size}", result.seed),
            ("gained by examples", f"{result.conditioning_gain} nats", "paired", result.seed),
        ]
    text = (
        "Measured on classes never seen in training, without retraining. ± is a 95 % interval, "
        "clustered by class."
    )
    if not rows:
        return Section("Results", "Nothing was measured.")
    return Section("Results", text, Table(("measure", "value", "over", "seed"), tuple(rows)))


def _training_section(history: Sequence[Mapping[str, Any]]) -> Section:
    captions: dict[plots.Quantity, str] = {
        "nll": "Negative log-likelihood per image during training.",
        "accuracy": "Few-shot accuracy on episodes during training.",
    }
    pictures = tuple(
        Picture(plots.plot_training_curve(history, quantity=quantity), caption)
        for quantity, caption in captions.items()
        if any(len(plots.history_series(history, kind, quantity)[0]) for kind in plots.KINDS)
    )
    return Section("Training", "" if pictures else "No training log.", pictures=pictures)


def _set_size_section(result: LikelihoodResult) -> Section:
    axes = plots.plot_log_likelihood_by_set_size(result)
    caption = (
        f"Negative log-likelihood of an image by number of examples of its class; {result.sets} "
        f"sets of {result.dataset}, seed {result.seed}."
    )
    return Section("Likelihood by set size", pictures=(Picture(axes, caption),))


def _correlation_section(model: Bruno) -> Section:
    above = int(correlated_dimensions(model.process, [0.1])[0])
    text = (
        "Elements of a set inform each other through correlated latent dimensions only. "
        f"{above} of {model.process.dim} have a correlation above 0.1."
    )
    axes = plots.plot_correlated_dimensions(model.process)
    caption = "Number of latent dimensions with a correlation above ε."
    return Section("Correlated latent dimensions", text, pictures=(Picture(axes, caption),))


def _config_section(config: Mapping[str, Any]) -> Section:
    rows = tuple(_flattened(config))
    return Section("Configuration", table=Table(("option", "value"), rows))


def _pictures_section(model: Bruno, dataset: LabelledImages, seed: int) -> Section:
    generator = generator_for(seed, Stream.REPORT_PICTURES)
    order = torch.randperm(dataset.num_classes, generator=generator, device="cpu")
    classes = [int(index) for index in order if dataset.class_sizes[index] > 0][:_ROWS]
    available = min(int(dataset.class_sizes[index]) for index in classes)
    labels = [dataset.class_names[index] for index in classes]
    pictures = []
    for given in sorted({min(number, available) for number in _GIVEN}):
        rows = torch.stack([dataset.indices_of(index)[:given] for index in classes])
        samples = _samples_given(model, dataset, rows, generator)
        axes = plots.plot_samples_given(dataset.images[rows], samples, row_labels=labels)
        plural = "s" if given > 1 else ""
        caption = f"{given} given example{plural} of each class, and samples of the model."
        pictures.append(Picture(axes, caption))
    number = _PRIOR_ROWS * _PRIOR_COLUMNS
    context = _contexts(model, dataset, (number,), generator)
    prior = model.prior().sample(number, context, generator)
    caption = "Samples of the prior, without any example."
    pictures.append(Picture(plots.plot_prior_samples(prior, columns=_PRIOR_COLUMNS), caption))
    text = (
        f"Classes drawn at random with seed {seed}; nothing was selected. Samples at latent "
        "scale 1 are exact; below 1 their latent deviations from the mean shrink, which trades "
        "variety for typicality; 0 is the image of the mean itself."
    )
    return Section("Samples", text, pictures=tuple(pictures))


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


def _section_html(section: Section) -> str:
    parts = [f"<h2>{escape(section.heading)}</h2>"]
    if section.text:
        parts.append(f"<p>{escape(section.text)}</p>")
    if section.table is not None:
        parts.append(_table_html(section.table))
    parts += [_picture_html(picture) for picture in section.pictures]
    return "<section>\n" + "\n".join(parts) + "\n</section>"


def _table_html(table: Table) -> str:
    head = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in table.header)
    lines = [f"<thead><tr>{head}</tr></thead>"] if head else []
    for first, *rest in table.rows:
        cells = "".join(f"<td>{escape(str(cell))}</td>" for cell in rest)
        lines.append(f'<tr><th scope="row">{escape(str(first))}</th>{cells}</tr>')
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _picture_html(picture: Picture) -> str:
    data = base64.b64encode(plots.to_png(picture.axes)).decode()
    caption = escape(picture.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/png;base64,{data}">\n'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def _flattened(config: Mapping[str, Any], prefix: str = "") -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for key, value in config.items():
        if isinstance(value, Mapping):
            rows += _flattened(value, f"{prefix}{key}.")
        else:
            rows.append((f"{prefix}{key}", value))
    return rows


def _precise(result: LikelihoodResult) -> str:
    bits = result.bits_per_dim
    return f"{bits.mean:.4f} ± {bits.half_width:.4f}"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min {rest:02d} s" if hours else f"{minutes} min {rest:02d} s"
