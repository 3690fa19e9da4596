"""The training loop: what a run improves, keeps, repeats and refuses."""

import dataclasses
import json
import math
import time
from functools import partial

import pytest
import torch

from bruno import Bruno, UserError
from bruno.data.sets import dequantise
from bruno.seeding import generator_for
from bruno.training import (
    ModelConfig,
    NonFiniteError,
    Objective,
    ObjectiveConfig,
    train,
)
from bruno.training.batches import training_batch, validation_batch
from bruno.training.checkpoint import load_checkpoint, save_checkpoint
from bruno.training.config import experiment_from_yaml
from bruno.training.nonfinite import first_non_finite_gradient, first_non_finite_layer
from tests.training.experiments import TINY, shortened, weights


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


def test_a_run_writes_its_configuration_before_its_first_step(digits, tmp_path, monkeypatch):
    def refuse(*_arguments):
        assert experiment_from_yaml(tmp_path / "config.yaml") == TINY
        raise UserError("x: seen")

    monkeypatch.setattr(Objective, "forward", refuse)
    with pytest.raises(UserError, match="x: seen"):
        train(TINY, *digits, tmp_path, device="cpu")


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


def test_a_compiled_flow_trains_to_the_same_weights(finished, digits, tmp_path, monkeypatch):
    # Tracing by Dynamo, without the minutes that a C++ compiler takes.
    compiled = partial(torch.compile, backend="eager")
    monkeypatch.setattr(torch, "compile", compiled)
    short = shortened(3)
    plain = train(short, *digits, tmp_path / "plain", device="cpu")
    traced = train(shortened(3, compile=True), *digits, tmp_path / "traced", device="cpu")
    for name, tensor in traced.state_dict().items():
        torch.testing.assert_close(tensor, plain.state_dict()[name], rtol=1e-4, atol=1e-5)


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


def test_subnormal_numbers_are_back_after_training(digits, tmp_path):
    train(shortened(2), *digits, tmp_path / "run", device="cpu")
    smallest = torch.tensor(1e-30) * torch.tensor(1e-10)
    assert float(smallest) > 0
