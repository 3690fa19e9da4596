import dataclasses
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import yaml
from safetensors.torch import load_file

from bruno import Bruno, CheckpointError, UserError
from bruno.data import DataConfig, load_dataset
from bruno.data.augmentation import Augmentation
from bruno.data.sets import dequantise
from bruno.device import resolve_device
from bruno.recipes import readable_recipe
from bruno.seeding import generator_for
from bruno.training import (
    Experiment,
    Interrupted,
    ModelConfig,
    NonFiniteError,
    Objective,
    ObjectiveConfig,
    TrainingConfig,
    train,
)
from bruno.training.batches import made_ahead, training_batch, validation_batch
from bruno.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from bruno.training.config import experiment_from_yaml
from bruno.training.launch import start_accelerator
from bruno.training.nonfinite import first_non_finite_gradient, first_non_finite_layer
from bruno.training.schedule import schedule
from bruno.training.stopping import StopSignals
from tests.faults import every_fault

TINY = Experiment(
    data=DataConfig("digits"),
    model=ModelConfig(filters=(8, 8), dense_units=16, dense_couplings=2),
    objective=ObjectiveConfig(shots=(1, 2)),
    training=TrainingConfig(
        steps=30,
        sets_per_batch=10,
        images_per_set=5,
        learning_rate=3e-3,
        warmup_steps=3,
        rotations=True,
        augmentation=Augmentation(degrees=5.0),
        validate_every=10,
        validation_batches=2,
        checkpoint_every=7,
    ),
)


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits", "train"), load_dataset("digits", "val")


def shortened(steps, **training):
    return dataclasses.replace(
        TINY, training=dataclasses.replace(TINY.training, steps=steps, **training)
    )


def weights(directory):
    return load_file(directory / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def finished(digits, tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "whole"
    rows = []
    model = train(
        TINY, *digits, directory, device="cpu", on_row=lambda row, p: rows.append((row, p))
    )
    return model, directory, rows


def test_training_improves_both_objectives(finished):
    _, directory, rows = finished
    validations = [row for row, _ in rows if row["kind"] == "validation"]
    assert [row["step"] for row in validations] == [10, 20, 30]
    assert validations[-1]["nll"] < validations[0]["nll"]
    assert validations[-1]["accuracy"] > 2 / 10  # chance is 1/10
    assert rows[-1][1] == 1.0
    history = [json.loads(line) for line in (directory / "history.jsonl").read_text().splitlines()]
    assert history == [row for row, _ in rows]
    assert {"images", "seconds", "images_per_second", "loss"} <= history[0].keys()


def test_what_is_kept_is_the_best_on_the_validation_classes(finished, digits):
    model, directory, rows = finished
    losses = [row["loss"] for row, _ in rows if row["kind"] == "validation"]
    loaded = Bruno.from_pretrained(directory / "model")
    objective = Objective(loaded, TINY.objective)
    figures = []
    for i in range(TINY.training.validation_batches):
        batch = validation_batch(digits[1], TINY, i)
        figures.append(float(objective(batch.x, TINY.objective.shots[i % 2]).loss.detach()))
    assert sum(figures) / len(figures) == pytest.approx(min(losses), abs=1e-4)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, loaded.state_dict()[name]), name


@torch.no_grad()
def test_trained_flows_are_inverted_to_rounding(finished, digits):
    loaded = Bruno.from_pretrained(finished[1] / "model")
    x = dequantise(digits[1].images, generator_for(0))
    assert float((loaded.decode(loaded.encode(x)) - x).abs().max()) / 256 <= 1e-4
    loaded.double()
    x = x.double()
    assert float((loaded.decode(loaded.encode(x)) - x).abs().max()) <= 1e-10


def test_the_run_keeps_its_configuration(finished):
    _, directory, _ = finished
    assert experiment_from_yaml(directory / "config.yaml") == TINY
    metadata = json.loads((directory / "model" / "config.json").read_text())["metadata"]
    assert metadata["experiment"]["training"]["steps"] == 30
    assert metadata["images"] == 30 * 50


def test_training_is_a_function_of_the_seed(finished, digits, tmp_path):
    train(TINY, *digits, tmp_path / "again", device="cpu")
    train(dataclasses.replace(TINY, seed=1), *digits, tmp_path / "other", device="cpu")
    first, again, other = (
        weights(finished[1]),
        weights(tmp_path / "again"),
        weights(tmp_path / "other"),
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_run_killed_at_any_moment_resumes_to_the_same_weights(finished, tmp_path):
    config = tmp_path / "tiny.yaml"
    config.write_text(yaml.safe_dump(json.loads(json.dumps(TINY.to_dict()))))
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "bruno.cli", "train", "--config", str(config)]
    command += ["--out", str(out), "--resume", "--device", "cpu"]
    checkpoint = out / "checkpoint.pt"
    kills = 0
    for wanted in (7, 14):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        while process.poll() is None:
            time.sleep(0.005)
            if checkpoint.exists() and load_checkpoint(out).step >= wanted:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += process.returncode == -signal.SIGKILL
                break
    assert kills == 2
    assert not (out / "model").exists()
    subprocess.run(command, check=True, capture_output=True)
    resumed, whole = weights(out), weights(finished[1])
    assert resumed.keys() == whole.keys()
    for name, tensor in whole.items():
        assert torch.equal(resumed[name], tensor), name
    steps = [json.loads(line)["step"] for line in (out / "history.jsonl").read_text().splitlines()]
    assert steps == [10, 10, 20, 20, 30, 30]


def test_an_existing_run_is_neither_overwritten_nor_continued_as_another(finished, digits):
    _, directory, _ = finished
    before = (directory / "checkpoint.pt").read_bytes()
    with pytest.raises(UserError, match="already holds a run; --resume"):
        train(TINY, *digits, directory, device="cpu")
    other = dataclasses.replace(TINY, seed=5)
    with pytest.raises(UserError, match="is of another experiment, with seed 0 instead of 5;"):
        train(other, *digits, directory, device="cpu", resume=True)
    changed = shortened(30, learning_rate=0.5, rotations=False)
    message = "with training.learning_rate 0.003 instead of 0.5, training.rotations True instead"
    with pytest.raises(UserError, match=message):
        train(changed, *digits, directory, device="cpu", resume=True)
    assert (directory / "checkpoint.pt").read_bytes() == before


def test_a_model_without_its_checkpoint_is_not_replaced(finished, digits, tmp_path):
    shutil.copytree(finished[1] / "model", tmp_path / "model")
    before = weights(tmp_path)
    with pytest.raises(UserError, match="already holds a run"):
        train(TINY, *digits, tmp_path, device="cpu")
    with pytest.raises(UserError, match=r"nothing to resume in .*, which holds a model but no"):
        train(TINY, *digits, tmp_path, device="cpu", resume=True)
    assert all(torch.equal(before[name], tensor) for name, tensor in weights(tmp_path).items())


def signalling(number, step):
    """Return an ``on_row`` that sends this process a signal at a step."""

    def on_row(row, _progress):
        if row["step"] == step and row["kind"] == "train":
            os.kill(os.getpid(), number)

    return on_row


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_by_a_signal_is_saved_and_goes_on_exactly(finished, digits, tmp_path, number):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    seldom = shortened(30, checkpoint_every=10**6)
    with pytest.raises(Interrupted, match=f"{number.name} after step 10, saved in ") as stop:
        train(seldom, *digits, tmp_path, device="cpu", on_row=signalling(number, 10))
    assert isinstance(stop.value, KeyboardInterrupt)
    assert (stop.value.number, stop.value.step) == (number, 10)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert load_checkpoint(tmp_path).step == 10
    train(seldom, *digits, tmp_path, device="cpu", resume=True)
    for name, tensor in weights(finished[1]).items():
        assert torch.equal(weights(tmp_path)[name], tensor), name


def test_a_second_signal_stops_at_once_and_one_of_a_launcher_does_not(monkeypatch):
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with StopSignals() as signals:
        assert signals.received == 0
        os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == signal.SIGINT
        now = 0.5
        os.kill(os.getpid(), signal.SIGTERM)  # passed on by what started the process
        now = 2.0
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signals.received == signal.SIGINT


def test_signals_that_were_ignored_stay_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as signals:
            os.kill(os.getpid(), signal.SIGINT)
        assert signals.received == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_threads_train_without_signals(digits, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(train, shortened(2), *digits, tmp_path, device="cpu").result()
    assert load_checkpoint(tmp_path).step == 2


def test_checkpoints_come_by_the_clock_too(digits, tmp_path):
    steps = []

    def on_row(row, _progress):
        if (tmp_path / "checkpoint.pt").exists():
            steps.append(load_checkpoint(tmp_path).step)

    often = shortened(20, checkpoint_every=10**6, checkpoint_minutes=1e-9)
    train(often, *digits, tmp_path, device="cpu", on_row=on_row)
    assert steps[0] == 9  # figures of step 10 are shown before it is saved
    assert TrainingConfig().checkpoint_minutes == 2
    seldom = shortened(20, checkpoint_every=10**6)
    with pytest.raises(Interrupted):
        train(seldom, *digits, tmp_path / "s", device="cpu", on_row=signalling(signal.SIGTERM, 10))


def test_a_run_writes_its_configuration_before_its_first_step(digits, tmp_path, monkeypatch):
    def refuse(*_arguments):
        assert experiment_from_yaml(tmp_path / "config.yaml") == TINY
        raise UserError("x: seen")

    monkeypatch.setattr(Objective, "forward", refuse)
    with pytest.raises(UserError, match="x: seen"):
        train(TINY, *digits, tmp_path, device="cpu")


def test_what_may_change_is_recorded(digits, tmp_path):
    train(shortened(2), *digits, tmp_path, device="cpu")
    longer = shortened(4, checkpoint_minutes=7.0)
    train(longer, *digits, tmp_path, device="cpu", resume=True)
    assert experiment_from_yaml(tmp_path / "config.yaml") == longer
    assert load_checkpoint(tmp_path).step == 4


def test_launches_that_cannot_be_joined_are_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"\(WORLD_SIZE=2\) asks for .*MASTER_ADDR"):
        start_accelerator("cpu")
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match=r"\(WORLD_SIZE=many\) asks for"):
        start_accelerator("cpu")
    monkeypatch.delenv("WORLD_SIZE")
    assert start_accelerator("cpu").num_processes == 1


def test_whatever_fails_the_old_or_the_new_checkpoint_is_there(tmp_path):
    def save(number):
        save_checkpoint(
            tmp_path, Checkpoint({}, number, 0.0, {"w": torch.ones(9)}, {}, {}, None, [])
        )

    save(0)
    for number in every_fault(tmp_path, save):
        assert load_checkpoint(tmp_path).step in (number - 1, number)
        save(number)
        assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_schedule_in_minutes_ends_in_time(digits, tmp_path):
    experiment = shortened(10**9, max_minutes=0.05, validate_every=10**6)
    start = time.perf_counter()
    train(experiment, *digits, tmp_path / "run", device="cpu")
    assert 3 <= time.perf_counter() - start < 30
    rows = [json.loads(x) for x in (tmp_path / "run" / "history.jsonl").read_text().splitlines()]
    assert rows[-1]["kind"] == "validation"


def test_student_t_and_bfloat16_train_too(digits, tmp_path):
    experiment = dataclasses.replace(
        shortened(10, precision="bfloat16"),
        model=dataclasses.replace(TINY.model, process="student_t"),
        objective=ObjectiveConfig(supports=1),
    )
    model = train(experiment, *digits, tmp_path / "run", device="cpu")
    assert all(bool(p.isfinite().all()) for p in model.parameters())


def test_schedule_warms_up_and_falls_to_zero():
    training = TrainingConfig(steps=100, warmup_steps=9)
    assert schedule(training, 0, 0.0) == (0.0, pytest.approx(0.1))
    assert schedule(training, 50, 0.0) == (0.5, pytest.approx(0.5))
    assert schedule(training, 100, 0.0)[1] == pytest.approx(0.0)
    minutes = dataclasses.replace(training, max_minutes=2.0)
    assert schedule(minutes, 50, 60.0) == (0.5, pytest.approx(0.5))
    both = dataclasses.replace(minutes, steps=100)
    assert schedule(both, 50, 6.0)[0] == 0.5
    assert schedule(both, 10, 90.0)[0] == 0.75
    assert schedule(TrainingConfig(), 500, 1e6)[0] == 0.25
    factors = [schedule(training, step, 0.0)[1] for step in range(10, 100)]
    assert factors == sorted(factors, reverse=True)


def test_batches_are_a_function_of_seed_and_step(digits):
    first = training_batch(digits[0], TINY, 3)
    assert torch.equal(first.x, training_batch(digits[0], TINY, 3).x)
    for other in (
        training_batch(digits[0], TINY, 4),
        training_batch(digits[0], TINY, 3, index=1),
        training_batch(digits[0], dataclasses.replace(TINY, seed=1), 3),
        validation_batch(digits[0], TINY, 3),
    ):
        assert other.x.shape == first.x.shape
        assert not torch.equal(first.x, other.x)
    assert bool(((first.x >= 0) & (first.x < 256)).all())


def test_batches_made_ahead_are_the_same_and_their_errors_arrive():
    batches = made_ahead(lambda step: step, 5)
    assert [next(batches) for _ in range(9)] == list(range(5, 14))
    batches.close()
    with pytest.raises(ZeroDivisionError):
        list(made_ahead(lambda step: 1 // (7 - step), 5))


def test_a_compiled_flow_trains_to_the_same_weights(finished, digits, tmp_path, monkeypatch):
    # Tracing by Dynamo, without the minutes that a C++ compiler takes.
    compiled = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", compiled)
    short = shortened(3)
    plain = train(short, *digits, tmp_path / "plain", device="cpu")
    traced = train(shortened(3, compile=True), *digits, tmp_path / "traced", device="cpu")
    for name, tensor in traced.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_reflections_mirror_whole_sets_of_training_and_none_of_validation(digits):
    plain = shortened(30, augmentation=Augmentation())
    mirrored = shortened(30, augmentation=Augmentation(), reflections=True)
    seen = []
    for step in range(3):
        before = training_batch(digits[0], plain, step).x.floor()
        after = training_batch(digits[0], mirrored, step).x.floor()
        for one, other in zip(before, after, strict=True):
            assert torch.equal(one, other) or torch.equal(one.flip(-1), other)
            seen.append(torch.equal(one, other))
    assert 0 < sum(seen) < len(seen)
    left, right = (validation_batch(digits[1], e, 0).x for e in (plain, mirrored))
    assert torch.equal(left, right)


def test_training_goes_on_from_pretrained_weights(finished, digits, tmp_path):
    _, directory, rows = finished
    start = str(directory / "model")
    further = dataclasses.replace(
        shortened(1, learning_rate=1e-9), model=ModelConfig(pretrained=start)
    )
    model = train(further, *digits, tmp_path / "further", device="cpu")
    before = Bruno.from_pretrained(start).state_dict()
    assert model.state_dict().keys() == before.keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=1e-2, atol=1e-2)
    history = [json.loads(line) for line in (tmp_path / "further/history.jsonl").open()]
    best = min(row["loss"] for row, _ in rows if row["kind"] == "validation")
    assert history[-1]["loss"] == pytest.approx(best, rel=0.05)


def test_pretrained_weights_must_fit_the_data(finished, tmp_path):
    pretrained = ModelConfig(pretrained=str(finished[1] / "model"))
    with pytest.raises(UserError, match=r"takes elements of shape \(1, 8, 8\)"):
        pretrained.build((1, 28, 28), 0)
    with pytest.raises(UserError, match="own flow and process, but process was given"):
        ModelConfig(pretrained="x", process="student_t")


def test_pretrained_weights_take_pixels_from_another_model(tmp_path):
    small = {"dense_units": 4, "dense_couplings": 0, "couplings": 0, "pixel_units": 4}
    for name in ("code", "pixels"):
        ModelConfig(preset="sums", **small).build((1, 8, 8), 0).save_pretrained(tmp_path / name)
    paths = {"pretrained": str(tmp_path / "code"), "pixels_from": str(tmp_path / "pixels")}
    joined = ModelConfig(**paths).build((1, 8, 8), 0)
    saved = {
        name: Bruno.from_pretrained(tmp_path / name).state_dict() for name in ("code", "pixels")
    }
    for name, tensor in joined.state_dict().items():
        assert torch.equal(tensor, saved["pixels" if ".pixels." in name else "code"][name])
    assert not any(p.requires_grad for n, p in joined.named_parameters() if ".pixels." in n)


def test_correlations_start_at_the_given_range(digits):
    config = ModelConfig(initial_correlation_range=(0.2, 0.8), dense_couplings=1)
    correlation = config.build(digits[0].event_shape, 0).process.correlation
    expected = torch.linspace(0.2, 0.8, len(correlation)).double()
    torch.testing.assert_close(correlation.detach(), expected)
    reverse = ModelConfig(initial_correlation_range=(0.8, 0.2), dense_couplings=1)
    reversed_ = reverse.build(digits[0].event_shape, 0).process.correlation
    torch.testing.assert_close(reversed_.detach(), expected.flip(0))
    for wrong in [(-0.1, 0.5), (0.5, 1.0)]:
        with pytest.raises(UserError, match="initial_correlation_range: expected two numbers"):
            ModelConfig(initial_correlation_range=wrong)


def test_a_step_that_is_not_finite_names_the_layer_and_the_step(digits, tmp_path):
    train(shortened(7), *digits, tmp_path / "run", device="cpu")
    checkpoint = load_checkpoint(tmp_path / "run")
    name = "flow.layers.layers.5.log_scale"
    model = dict(checkpoint.model)
    assert name in model
    model[name] = model[name] * math.nan
    save_checkpoint(tmp_path / "run", dataclasses.replace(checkpoint, model=model))
    with pytest.raises(NonFiniteError, match=r"the output of flow\.layers\.layers\.5 at step 7"):
        train(shortened(9), *digits, tmp_path / "run", device="cpu", resume=True)


def test_a_gradient_that_is_not_finite_is_named(digits):
    model = TINY.model.build((1, 8, 8), 0)
    objective = Objective(model, TINY.objective)
    model.process.raw_variance.grad = torch.full((64,), math.inf).double()
    assert first_non_finite_layer(objective, training_batch(digits[0], TINY, 0), 1) is None
    assert first_non_finite_gradient(objective) == "the gradient of process.raw_variance"


def test_other_errors_of_a_step_stay_what_they_are(digits, tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise UserError("x: refused")

    monkeypatch.setattr(Objective, "forward", refuse)
    with pytest.raises(UserError, match="x: refused"):
        train(shortened(1), *digits, tmp_path / "run", device="cpu")


def test_damaged_checkpoints_are_refused(finished, digits, tmp_path):
    content = (finished[1] / "checkpoint.pt").read_bytes()
    for name, damaged in {
        "cut": content[: len(content) // 2],
        "foreign": b"not a checkpoint at all",
        "empty": b"",
    }.items():
        directory = tmp_path / name
        directory.mkdir()
        (directory / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"checkpoint\.pt: cannot be read"):
            train(TINY, *digits, directory, device="cpu", resume=True)
    (tmp_path / "other").mkdir()
    torch.save({"step": 3}, tmp_path / "other" / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a training checkpoint of this version"):
        load_checkpoint(tmp_path / "other")
    torch.save({"format_version": 1, "step": 3}, tmp_path / "other" / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="not a complete training checkpoint"):
        load_checkpoint(tmp_path / "other")


def test_checkpoints_never_execute_code(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'executed'}",)

    torch.save({"format_version": 1, "step": Attack()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "executed").exists()


def test_checkpoint_round_trip(tmp_path):
    checkpoint = Checkpoint({"seed": 1}, 3, 1.5, {"w": torch.ones(2)}, {}, {}, None, [{"step": 1}])
    save_checkpoint(tmp_path, checkpoint)
    loaded = load_checkpoint(tmp_path)
    assert loaded.step == 3
    assert loaded.history == [{"step": 1}]
    assert torch.equal(loaded.model["w"], torch.ones(2))


def test_devices():
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(UserError, match="device: expected auto, cpu or cuda, got 'tpu'"):
        resolve_device("tpu")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainingConfig(steps=0), "steps: expected a whole number of at least 1"),
        (
            lambda: TrainingConfig(sets_per_batch=1),
            "sets_per_batch: expected a whole number of at least 2",
        ),
        (lambda: TrainingConfig(learning_rate=0.0), "learning_rate: expected a positive"),
        (lambda: TrainingConfig(learning_rate=math.nan), "learning_rate: expected a positive"),
        (lambda: TrainingConfig(max_minutes=0.0), "max_minutes: expected a positive"),
        (lambda: TrainingConfig(checkpoint_minutes=0.0), "checkpoint_minutes: expected a positive"),
        (lambda: TrainingConfig(ema_decay=1.0), "ema_decay"),
        (lambda: ModelConfig(preset="dance"), "preset: expected one of paper, "),
        (lambda: ModelConfig(process="dance"), "process: expected one of gaussian, student_t"),
        (lambda: Experiment(seed=-1), "seed: expected a whole number of at least 0"),
        (lambda: Experiment(objective=ObjectiveConfig(shots=(5,))), "fewer than images_per_set"),
        (
            lambda: Experiment(
                objective=ObjectiveConfig(
                    discriminative_weight=0.0, prediction_weight=1.0, shots=(5,)
                )
            ),
            "fewer than images_per_set",
        ),
    ],
)
def test_bad_configurations_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


def test_bad_recipes_are_named(tmp_path):
    path = tmp_path / "bad.yaml"
    for text in ("training:\n  stepps: 3\n", "training: [", "training:\n  steps: many\n"):
        path.write_text(text)
        with pytest.raises(UserError, match="is not a valid recipe"):
            experiment_from_yaml(path)


def test_subnormal_numbers_are_back_after_training(digits, tmp_path):
    train(shortened(2), *digits, tmp_path / "run", device="cpu")
    smallest = torch.tensor(1e-30) * torch.tensor(1e-10)
    assert float(smallest) > 0


def test_names_of_earlier_versions_go_on(tmp_path):
    old = {
        "data": {"name": "digits", "learn_val": True, "also": None},
        "model": {"correlations": [0.1, 0.3]},
        "training": {"average_decay": 0.7, "steps": 2},
    }
    recipe = tmp_path / "old.yaml"
    recipe.write_text(yaml.safe_dump(old))
    experiment = experiment_from_yaml(recipe)
    assert experiment.data.train_on_val
    assert experiment.model.initial_correlation_range == (0.1, 0.3)
    assert experiment.training.ema_decay == 0.7
    assert "ema_decay: 0.7" in readable_recipe(recipe)
    recipe.write_text("training: {ema_decay: 0.7}")
    assert readable_recipe(recipe) == str(recipe)
