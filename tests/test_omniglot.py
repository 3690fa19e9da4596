"""A small but real run on Omniglot: half a minute of training on characters, tested on new ones."""

import json
import re

import torch

from bruno import Bruno
from bruno.cli import main
from bruno.data import DataConfig, dequantise, load_dataset
from bruno.seeding import generator_for


def test_half_a_minute_of_training_beats_chance_clearly(real_data, tmp_path, capsys):
    data = f"--data-dir={real_data('omniglot')}"
    recipe = ["--config", "recipes/omniglot-compact.yaml", data, "--out", str(tmp_path / "run")]
    small = ["--model.filters=[16,32]", "--model.dense_units=128", "--training.steps=40"]
    small += ["--training.max_minutes=null", "--objective.generative_weight=2"]
    small += ["--training.precision=float32", "--training.ema_decay=0.9"]
    assert main(["train", *recipe, *small, "--training.checkpoint_every=1000"]) == 0
    err = capsys.readouterr().err
    assert re.search(r"omniglot train: 20560 images of 1028 classes", err)
    evaluate = ["evaluate", "--run", str(tmp_path / "run"), "--split=val", "--trials=1", "--json"]
    assert main(evaluate) == 0
    figures = json.loads(capsys.readouterr().out)
    accuracy = {(r["way"], r["shot"]): r["accuracy"]["mean"] for r in figures["few_shot"]}
    assert [r["decisions"] for r in figures["few_shot"]] == [688] * 4
    # Chance is 5 % and 20 %; the marks are about ten points below what the run reaches.
    assert accuracy[20, 1] > 27
    assert accuracy[5, 5] > 68
    model = Bruno.from_pretrained(tmp_path / "run" / "model")
    new = load_dataset(DataConfig("omniglot", data_dir=str(real_data("omniglot"))), "val")
    x = dequantise(new.images[:100], generator_for(0))
    with torch.no_grad():
        assert float((model.decode(model.encode(x)) - x).abs().max()) / 256 <= 1e-4
        model.double()
        assert float((model.decode(model.encode(x.double())) - x).abs().max()) <= 1e-10
    measured = figures["likelihood"]
    assert measured["dataset"] == "omniglot/val"
    assert measured["nll"]["mean"] < 1700
    assert measured["conditioning_gain"]["mean"] > 0
