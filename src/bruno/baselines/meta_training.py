"""Meta-training: one loop for all few-shot systems, in CPU time, that can be resumed."""

from __future__ import annotations

import copy
import io
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bruno.baselines.interface import System, flatten_episode
from bruno.data.dataset import LabelledImages
from bruno.data.sets import sample_episode
from bruno.errors import CheckpointError, UserError
from bruno.seeding import generator_for
from bruno.serialization import write_atomically
from bruno.validation import check_positive, check_whole

_INITIALISATION, _TRAINING, _VALIDATION, _NOISE = range(4)
_GRADIENT_CLIP = 5.0

Row = dict[str, float]
OnRow = Callable[[Row, float], None]
OnMark = Callable[[System, float, int], None]


@dataclass(frozen=True)
class MetaTrainingConfig:
    """Length of a meta-training and its validation.

    The learning rate falls from its peak to 0 along a cosine, for every system alike: published
    schedules are for tens of thousands of episodes.

    Attributes:
        cpu_minutes: Length in minutes of CPU time of the process, validations included.
        steps: Length in steps; with both, whichever comes first ends it.
        validations: Number of validations, evenly spread; the weights with the highest accuracy on
            validation classes are kept.
        validation_way: Classes in a validation episode.
        validation_shot: Examples of each.
        validation_queries: Queries of each.
        validation_episodes: Number of episodes; they are always the same.
        seed: Seed of initialisation and episodes.
    """

    cpu_minutes: float | None = 15.0
    steps: int | None = None
    validations: int = 20
    validation_way: int = 20
    validation_shot: int = 1
    validation_queries: int = 5
    validation_episodes: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            UserError: If a number is out of its range, or no length is given.
        """
        if self.cpu_minutes is None and self.steps is None:
            raise UserError("cpu_minutes: expected a length in cpu_minutes or steps, got none")
        if self.cpu_minutes is not None:
            check_positive("cpu_minutes", self.cpu_minutes)
        if self.steps is not None:
            check_whole("steps", self.steps, 1)
        for name in ("validations", "validation_shot", "validation_queries", "validation_episodes"):
            check_whole(name, getattr(self, name), 1)
        check_whole("validation_way", self.validation_way, 2)
        check_whole("seed", self.seed, 0)


def build_system(kind: type[System], dataset: LabelledImages, seed: int) -> System:
    """Return an untrained system.

    Args:
        kind: Its class.
        dataset: Training classes.
        seed: Seed of the initialisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        system = kind(dataset.event_shape, dataset.num_classes)
    system.prepare(dataset, generator_for(seed, _INITIALISATION))
    return system


@dataclass
class _Run:
    """The changing state of a meta-training."""

    step: int = 0
    seconds: float = 0.0
    validated: int = 0
    marked: int = 0
    best_accuracy: float = -1.0
    best: dict[str, Tensor] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def meta_train(
    system: System,
    training_set: LabelledImages,
    validation_set: LabelledImages,
    config: MetaTrainingConfig = MetaTrainingConfig(),
    *,
    marks: Sequence[float] = (),
    on_mark: OnMark | None = None,
    on_row: OnRow | None = None,
    state_file: Path | None = None,
) -> System:
    """Train a system on episodes and leave it with the weights that were best in validation.

    Args:
        system: The system, from :func:`build_system`.
        training_set: Classes to learn from, each in four rotations.
        validation_set: Other classes, to choose the weights.
        config: Length and validation.
        marks: Shares of the length, ascending, at which ``on_mark`` is called.
        on_mark: Called with the system as it is best so far, the CPU minutes and steps of
            training; the time that it takes does not count.
        on_row: Called with the figures of every validation and the share of the length done.
        state_file: File to keep the state in after every validation and every mark, from which a
            training that was stopped goes on; the time that this takes does not count.

    Returns:
        The system, in evaluation mode.

    Raises:
        UserError: If there are too few classes or images of one.
        CheckpointError: If the state file cannot be read.
    """
    optimiser = system.optimiser()
    peaks = [group["lr"] for group in optimiser.param_groups]
    run = _Run()
    if state_file is not None and state_file.is_file():
        _restore(state_file, system, optimiser, run)
    torch.set_flush_denormal(True)  # subnormal gradients are several times slower on a CPU
    try:
        start = time.process_time() - run.seconds
        share = _share(config, run.step, run.seconds)
        while True:
            due = share >= (run.validated + 1) / config.validations or share >= 1
            if due and not (run.rows and run.rows[-1]["step"] == run.step):
                run.seconds = time.process_time() - start
                row = _validate(system, validation_set, config, run)
                run.seconds = row["cpu_seconds"]
                run.validated = max(run.validated + 1, math.floor(share * config.validations))
                if on_row is not None:
                    on_row(row, min(1.0, share))
                _save(state_file, system, optimiser, run)
                start = time.process_time() - run.seconds
            while run.marked < len(marks) and run.best and share >= marks[run.marked]:
                run.seconds = time.process_time() - start
                if on_mark is not None:
                    _at_best(system, run, on_mark)
                run.marked += 1
                _save(state_file, system, optimiser, run)
                start = time.process_time() - run.seconds
            if share >= 1:
                break
            warmup = min(1.0, (run.step + 1) / (system.warmup_steps + 1))
            factor = warmup * 0.5 * (1 + math.cos(math.pi * share))
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
            _step(system, optimiser, training_set, config.seed, run.step)
            run.step += 1
            system.after_step(run.step)
            share = _share(config, run.step, time.process_time() - start)
    finally:
        torch.set_flush_denormal(False)
    system.load_state_dict(run.best)
    return system.eval()


def _share(config: MetaTrainingConfig, step: int, seconds: float) -> float:
    by_step = 0.0 if config.steps is None else step / config.steps
    by_time = 0.0 if config.cpu_minutes is None else seconds / (60 * config.cpu_minutes)
    return max(by_step, by_time)


def _step(
    system: System,
    optimiser: torch.optim.Optimizer,
    training_set: LabelledImages,
    seed: int,
    step: int,
) -> None:
    """Take one step; a gradient that is not finite is left out."""
    system.train()
    optimiser.zero_grad()
    for task in range(system.plan.tasks):
        episode = system.draw(training_set, step, generator_for(seed, _TRAINING, step, task))
        loss = system.loss(episode, generator_for(seed, _NOISE, step, task))
        (loss / system.plan.tasks).backward()
    norm = torch.nn.utils.clip_grad_norm_(system.parameters(), _GRADIENT_CLIP)
    if bool(torch.isfinite(norm)):
        optimiser.step()


def _validate(
    system: System, dataset: LabelledImages, config: MetaTrainingConfig, run: _Run
) -> Row:
    """Score the system on fixed episodes and keep its weights if they are best."""
    before = time.process_time()
    loss, accuracy = validation_figures(system, dataset, config)
    if accuracy > run.best_accuracy:
        run.best_accuracy = accuracy
        run.best = {name: value.clone() for name, value in system.state_dict().items()}
    seconds = run.seconds + time.process_time() - before
    row = {"step": run.step, "cpu_seconds": seconds, "loss": loss, "accuracy": accuracy}
    run.rows.append(row)
    return row


@torch.no_grad()
def validation_figures(
    system: System, dataset: LabelledImages, config: MetaTrainingConfig
) -> tuple[float, float]:
    """Return log-loss in nats and accuracy of a system on the validation episodes.

    Args:
        system: The system.
        dataset: Validation classes.
        config: The episodes.

    Raises:
        UserError: If there are too few classes or images of one.
    """
    system.eval()
    losses, correct = [], []
    for index in range(config.validation_episodes):
        generator = generator_for(config.seed, _VALIDATION, index)
        episode = sample_episode(
            dataset,
            min(config.validation_way, dataset.num_classes),
            config.validation_shot,
            config.validation_queries,
            generator,
            rotations=True,
        )
        support, labels, query, truth = flatten_episode(episode)
        log_prob = system.adapt(support, labels).predict_log_prob(query)
        losses.append(torch.nn.functional.nll_loss(log_prob.double(), truth))
        correct.append((log_prob.argmax(-1) == truth).double().mean())
    return float(torch.stack(losses).mean()), float(torch.stack(correct).mean())


def _at_best(system: System, run: _Run, on_mark: OnMark) -> None:
    """Call back with the weights that are best so far, then go on with the present ones."""
    present = copy.deepcopy(system.state_dict())
    system.load_state_dict(run.best)
    on_mark(system.eval(), run.seconds / 60, run.step)
    system.load_state_dict(present)


def _save(file: Path | None, system: System, optimiser: torch.optim.Optimizer, run: _Run) -> None:
    """Keep the state, if it is to be kept; its cost depends on the size of the system."""
    if file is None:
        return
    buffer = io.BytesIO()
    state: dict[str, Any] = {
        "system": system.state_dict(),
        "optimiser": optimiser.state_dict(),
        "run": dict(run.__dict__),
    }
    torch.save(state, buffer)
    write_atomically(file, buffer.getvalue())


def _restore(file: Path, system: System, optimiser: torch.optim.Optimizer, run: _Run) -> None:
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        system.load_state_dict(state["system"])
        optimiser.load_state_dict(state["optimiser"])
        run.__dict__.update(state["run"])
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{file}: cannot be read as a meta-training: {reason}") from None
