"""Settings of training: schedules, batches, starting weights, and what is refused."""

import dataclasses
import math

import pytest
import torch
import yaml

from bruno import Bruno, UserError
from bruno.data.augmentation import Augmentation
from bruno.device import resolve_device
from bruno.recipes import readable_recipe
from bruno.training import (
    Experiment,
    ModelConfig,
    ObjectiveConfig,
    TrainingConfig,
)
from bruno.training.batches import made_ahead, training_batch, validation_batch
from bruno.training.config import experiment_from_yaml
from bruno.training.launch import start_accelerator
from bruno.training.schedule import schedule
from tests.training.experiments import TINY, shortened


def test_launches_that_cannot_be_joined_are_named(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"\(WORLD_SIZE=2\) asks for .*MASTER_ADDR"):
        start_accelerator("cpu")
    monkeypatch.setenv("WORLD_SIZE", "many")
    with pytest.raises(UserError, match=r"\(WORLD_SIZE=many\) asks for"):
        start_accelerator("cpu")
    monkeypatch.delenv("WORLD_SIZE")
    assert start_accelerator("cpu").num_processes == 1


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
        (lambda: TrainingConfig(weight_decay=-0.1), "weight_decay: expected a finite number"),
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
