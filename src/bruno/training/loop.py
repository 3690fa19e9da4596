"""The training loop: batches, optimiser, averaged weights, validation and checkpoints.

Hugging Face Accelerate places the model and runs several processes under ``accelerate launch``;
everything random is a function of (seed, step), so a run that was stopped goes on exactly.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import count
from pathlib import Path
from typing import Any, cast

import torch
from torch.optim.swa_utils import AveragedModel

from bruno.data.dataset import LabelledImages
from bruno.errors import UserError
from bruno.model import Bruno
from bruno.serialization import write_atomically
from bruno.training.batches import (
    Batch,
    initialisation_batch,
    made_ahead,
    sets_per_batch,
    training_batch,
    validation_batch,
)
from bruno.training.checkpoint import Checkpoint, save_checkpoint
from bruno.training.checks import check_data
from bruno.training.config import Experiment
from bruno.training.graphs import GradientGraphs
from bruno.training.launch import start_accelerator
from bruno.training.nonfinite import (
    NonFiniteError,
    first_non_finite_gradient,
    first_non_finite_layer,
)
from bruno.training.objectives import Losses, Objective
from bruno.training.optimisation import cpu_by_default, make_optimiser, warmed_up_average
from bruno.training.run_directory import (
    HISTORY_FILE,
    MODEL_DIRECTORY,
    check_directory,
    write_config,
)
from bruno.training.schedule import Clock, schedule
from bruno.training.stopping import Interrupted, StopSignals

_LOG_EVERY = 10

Row = dict[str, Any]


def train(
    experiment: Experiment,
    training_set: LabelledImages,
    validation_set: LabelledImages,
    directory: Path,
    *,
    device: str = "auto",
    resume: bool = False,
    on_row: Callable[[Row, float], None] | None = None,
) -> Bruno:
    """Train a model and return the averaged weights that were best on the validation classes.

    Writes to ``directory``: ``config.yaml`` when it starts, ``checkpoint.pt`` and
    ``history.jsonl`` every few minutes and when SIGINT or SIGTERM stops it, and ``model/`` at the
    end.

    Args:
        experiment: The experiment.
        training_set: Training classes.
        validation_set: Other classes (or other images), to choose the stopping point on.
        directory: Where the run lives.
        device: ``auto``, ``cpu`` or ``cuda``.
        resume: Go on from the checkpoint in ``directory``, if there is one.
        on_row: Called with every row of figures and the share of the schedule that is done.

    Returns:
        The model with the best averaged weights.

    Raises:
        UserError: If the experiment does not fit the data, or the directory holds a run already or
            one of another experiment.
        CheckpointError: If the checkpoint cannot be read.
        NonFiniteError: If a loss or gradient is not finite.
        Interrupted: If SIGINT or SIGTERM arrives; a KeyboardInterrupt, after which ``resume`` goes
            on where it stopped.
    """
    checkpoint = check_directory(directory, experiment, resume=resume)
    run = _Run(experiment, training_set, validation_set, directory, device)
    if checkpoint is None:
        run.initialise()
    else:
        run.restore(checkpoint)
    run.train(on_row or (lambda _row, _progress: None))
    return run.finish()


class _Run:
    """The changing state of a training run."""

    def __init__(
        self,
        experiment: Experiment,
        training_set: LabelledImages,
        validation_set: LabelledImages,
        directory: Path,
        device: str,
    ) -> None:
        self.experiment, self.directory = experiment, directory
        self.training_set, self.validation_set = training_set, validation_set
        training = experiment.training
        self.shots = experiment.objective.shots
        self.accelerator = start_accelerator(device)
        processes = self.accelerator.num_processes
        self.batches_per_step = training.batches_per_step or processes
        if self.batches_per_step % processes:
            raise UserError(
                f"batches_per_step: expected a multiple of the {processes} processes, got "
                f"{self.batches_per_step}"
            )
        self.own_batches = self.batches_per_step // processes
        check_data(experiment, training_set, validation_set)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(experiment.seed)
            model = experiment.model.build(
                training_set.event_shape, training_set.context_dim, training_set.context_features
            )
        self.objective = Objective(
            model, experiment.objective, autocast=training.precision == "bfloat16"
        ).to(self.accelerator.device)
        self.wrapped: torch.nn.Module = self.objective
        self.step, self.seconds = 0, 0.0
        self.history: list[Row] = []
        self.best: dict[str, Any] | None = None

    def initialise(self) -> None:
        """Set the scales of a new flow from data and start the optimiser."""
        if self.experiment.model.pretrained is None:
            flow = self.objective.model.flow
            batch = self._on_device(
                initialisation_batch(self.training_set, self.experiment, flow.initialisation_images)
            )
            flow.initialise(batch.x, batch.context)
        self._prepare()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint."""
        self.objective.model.load_state_dict(checkpoint.model)
        self._prepare()
        self.average.load_state_dict(checkpoint.average)
        self.optimiser.load_state_dict(checkpoint.optimiser)
        self.step, self.seconds = checkpoint.step, checkpoint.seconds
        self.history, self.best = list(checkpoint.history), checkpoint.best

    def _prepare(self) -> None:
        training, model = self.experiment.training, self.objective.model
        self.average = AveragedModel(
            model, self.accelerator.device, multi_avg_fn=warmed_up_average(training.ema_decay)
        )
        optimiser = make_optimiser(model, training)
        self.peaks = [group["lr"] for group in optimiser.param_groups]
        if training.compile:
            model.flow.compile_layers()
        self.wrapped, self.optimiser = self.accelerator.prepare(self.objective, optimiser)
        self.graphs = self._gradient_graphs() if training.cuda_graphs else None

    def _gradient_graphs(self) -> GradientGraphs | None:
        """Return the recorded gradients; on a CPU there is nothing to record."""
        if self.accelerator.device.type == "cpu":
            return None
        if self.accelerator.num_processes > 1:
            raise UserError(
                f"cuda_graphs: expected one process, got {self.accelerator.num_processes}"
            )
        batch = self._on_device(training_batch(self.training_set, self.experiment, self.step))
        return GradientGraphs(self.objective, batch, self.shots, 1 / self.own_batches)

    def train(self, on_row: Callable[[Row, float], None]) -> None:
        """Run to the end of the schedule, or until a signal stops it.

        Raises:
            Interrupted: If a signal stopped the run, which is then saved.
        """
        if self.accelerator.is_main_process:
            write_config(self.directory, self.experiment)
        # Gradients of very improbable events are subnormal numbers, with which a CPU is several
        # times slower.
        torch.set_flush_denormal(True)
        try:
            with cpu_by_default(), StopSignals() as signals:
                self._steps(on_row, signals)
        finally:
            torch.set_flush_denormal(False)

    def _steps(self, on_row: Callable[[Row, float], None], signals: StopSignals) -> None:
        training = self.experiment.training
        clock = Clock(self.seconds)
        progress, factor = schedule(training, self.step, self._agreed(signals, clock)[1])
        batches = self._batches()
        while progress < 1:
            losses = self._train_step(batches, factor)
            self.step += 1
            shown = min(1.0, schedule(training, self.step, clock.seconds())[0])
            if self.step % _LOG_EVERY == 0:
                on_row(self._row("train", losses, clock), shown)
            if self.step % training.validate_every == 0:
                on_row(self._validate(clock), shown)
            stopped, seconds = self._agreed(signals, clock)
            progress, factor = schedule(training, self.step, seconds)
            minutes = (clock.seconds() - self.seconds) / 60
            if (
                stopped
                or self.step % training.checkpoint_every == 0
                or minutes >= training.checkpoint_minutes
            ):
                self.seconds = clock.seconds()
                self._save()
            if stopped:
                self.accelerator.wait_for_everyone()
                raise Interrupted(stopped, self.step, self.directory)
        if not self.history or self.history[-1] != self._last_validation():
            on_row(self._validate(clock), 1.0)
        self.seconds = clock.seconds()
        self._save()

    def _agreed(self, signals: StopSignals, clock: Clock) -> tuple[int, float]:
        """Return the signal that has come to any of the processes, or 0, and the first's time.

        All stop after the same step, and go by one clock: one that went on would wait for the
        others for ever, and another rate of learning would part the weights.
        """
        number, seconds = signals.received, clock.seconds()
        if self.accelerator.num_processes > 1:
            device = self.accelerator.device
            own = torch.tensor([[number, seconds]], dtype=torch.float64, device=device)
            every = self.accelerator.gather(own)
            number, seconds = int(every[:, 0].max()), float(every[0, 1])
        return number, seconds

    def _batches(self) -> Iterator[Batch]:
        """Return the batches of this process, those of the present step first."""
        processes = self.accelerator.num_processes

        def make(index: int) -> Batch:
            step, place = divmod(index, self.own_batches)
            batch = self.accelerator.process_index + place * processes
            return training_batch(self.training_set, self.experiment, step, batch)

        # A CPU that trains has no time left to make batches in.
        on_cpu = self.accelerator.device.type == "cpu"
        first = self.step * self.own_batches
        return map(make, count(first)) if on_cpu else made_ahead(make, first)

    def _train_step(self, batches: Iterator[Batch], factor: float) -> Losses:
        training = self.experiment.training
        for group, peak in zip(self.optimiser.param_groups, self.peaks, strict=True):
            group["lr"] = peak * factor
        shot = self.shots[self.step % len(self.shots)]
        self.optimiser.zero_grad(set_to_none=self.graphs is None)
        figures = []
        for index in reversed(range(self.own_batches)):
            batch = self._on_device(next(batches))
            # Processes exchange gradients with the last of their batches.
            with self.accelerator.no_sync(self.wrapped) if index else nullcontext():
                figures.append(self._gradients(batch, shot))
        losses = Losses(*torch.stack([torch.stack(each) for each in figures]).mean(0))
        norm = self.accelerator.clip_grad_norm_(self.objective.parameters(), training.gradient_clip)
        if not bool(torch.isfinite(losses.loss)) or not bool(torch.isfinite(norm)):
            place = first_non_finite_layer(self.objective, batch, shot)
            place = place or first_non_finite_gradient(self.objective)
            raise NonFiniteError(place or "the loss", self.step)
        self.optimiser.step()
        self.average.update_parameters(self.objective.model)
        return losses

    def _gradients(self, batch: Batch, shot: int) -> Losses:
        """Add the gradients of one of the batches of a step, and return its figures."""
        if self.graphs is not None:
            return self.graphs(batch, shot)
        try:
            losses: Losses = self.wrapped(batch.x, shot, batch.context, batch.generator)
            self.accelerator.backward(losses.loss / self.own_batches)
        except UserError as error:
            layer = first_non_finite_layer(self.objective, batch, shot)
            if layer is None:
                raise
            raise NonFiniteError(layer, self.step) from error
        return Losses(*(figure.detach() for figure in losses))

    @torch.no_grad()
    def _validate(self, clock: Clock) -> Row:
        """Score the averaged weights on the validation classes and keep them if they are best."""
        objective = Objective(self._averaged_model(), self.experiment.objective).eval()
        batches = self.experiment.training.validation_batches
        figures = []
        for i in range(batches):
            batch = self._on_device(validation_batch(self.validation_set, self.experiment, i))
            shot = self.shots[i % len(self.shots)]
            losses = objective(batch.x, shot, batch.context, batch.generator)
            figures.append(torch.stack(losses).cpu())
        mean = Losses(*torch.stack(figures).mean(0))
        lowest = min(
            (row["loss"] for row in self.history if row["kind"] == "validation"),
            default=math.inf,
        )
        if self.best is None or mean.loss < lowest:
            self.best = {k: v.cpu().clone() for k, v in self._averaged_model().state_dict().items()}
        row = self._row("validation", mean, clock)
        clock.skip()
        return row

    def _row(self, kind: str, losses: Losses, clock: Clock) -> Row:
        """Append the figures of a step or validation to the history and return them."""
        training = self.experiment.training
        sets = sets_per_batch(self.training_set, self.experiment)
        per_step = sets * training.images_per_set * self.batches_per_step
        row: Row = {
            "kind": kind,
            "step": self.step,
            "images": self.step * per_step,
            "seconds": round(clock.seconds(), 2),
            **{
                name: round(float(value), 6)
                for name, value in losses._asdict().items()
                if not value.isnan()
            },
        }
        if kind == "train":
            row["images_per_second"] = round(per_step * _LOG_EVERY / clock.lap(), 1)
        self.history.append(row)
        return row

    def _last_validation(self) -> Row | None:
        return next((r for r in reversed(self.history) if r["kind"] == "validation"), None)

    def _averaged_model(self) -> Bruno:
        return cast("Bruno", self.average.module)

    def _on_device(self, batch: Batch) -> Batch:
        device = self.accelerator.device
        context = None if batch.context is None else batch.context.to(device)
        return Batch(batch.x.to(device), context, batch.generator)

    def _save(self) -> None:
        if not self.accelerator.is_main_process:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(row) + "\n" for row in self.history)
        save_checkpoint(
            self.directory,
            Checkpoint(
                experiment=self.experiment.to_dict(),
                step=self.step,
                seconds=self.seconds,
                model=self.objective.model.state_dict(),
                average=self.average.state_dict(),
                optimiser=self.optimiser.state_dict(),
                best=self.best,
                history=self.history,
            ),
        )
        write_atomically(self.directory / HISTORY_FILE, lines.encode())

    def finish(self) -> Bruno:
        """Write and return the best model."""
        model = self._averaged_model()
        if self.best is not None:
            model.load_state_dict(self.best)
        if self.accelerator.is_main_process:
            validation = self._last_validation() or {}
            model.save_pretrained(
                self.directory / MODEL_DIRECTORY,
                {
                    "experiment": self.experiment.to_dict(),
                    "images": validation.get("images"),
                    "context_features": {
                        feature.name: feature.is_angle
                        for feature in self.training_set.context_features
                    },
                },
            )
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()
        return model
