"""The models that come with the package still do what their cards say."""

import dataclasses
import json
import math

import pytest
import torch

from bruno import Bruno
from bruno.cli import main
from bruno.data import load_dataset
from bruno.evaluation import few_shot_accuracy, novel_views, pose
from bruno.seeding import generator_for
from bruno.training.locate import locate_model
from tests import golden

NAMES = Bruno.pretrained()
CONDITIONAL = ("turntable",)
FILES = {
    "turntable": "turntable",
    "omniglot": "omniglot",
    "mnist": "mnist",
    "fashion": "fashion_mnist",
}
LARGEST = 18 * 2**20


def card_and_data(name, real_data):
    located = locate_model(None, name)
    folder = FILES.get(located.experiment["data"]["name"])
    overrides = {"data_dir": str(real_data(folder))} if folder else {}
    return located.card["figures"], load_dataset(located.data_config(overrides), "test")


def test_the_weights_are_there():
    omniglot = {"omniglot", "omniglot-classify"}
    expected = {"glyphs", "mnist"} | omniglot
    assert expected | set(CONDITIONAL) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_model_is_small_and_says_how_it_was_made(name):
    located = locate_model(None, name)
    assert (located.path / "model.safetensors").stat().st_size <= LARGEST
    card = located.card
    assert "bruno train --config " in card["command"]
    assert card["evaluated with"].startswith(f"bruno evaluate --pretrained {name}")
    assert card["training images"] > 0
    assert (located.experiment["training"]["steps"] or math.inf) >= card["training step"]
    assert {"seed", "date", "machine", "torch"} <= card.keys()
    assert located.experiment["data"]["data_dir"] is None
    model = located.load()
    x = 256 * torch.rand(2, *model.event_shape, generator=generator_for(0))
    context = torch.randn(2, model.flow.context_dim) if model.flow.context_dim else None
    with torch.no_grad():
        back = model.decode(model.encode(x, context), context)
        assert bool(torch.isfinite(model.log_prob(x, context)))
    assert float((back - x).abs().median()) < 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_likelihood_is_what_it_was(name, real_data):
    """The same twenty sets to the rounding of single precision."""
    folder = FILES.get(locate_model(None, name).experiment["data"]["name"])
    overrides = {"data_dir": str(real_data(folder))} if folder else {}
    expected = json.loads(golden.FILE.read_text())["likelihood"][name]
    assert golden.likelihood_figures(name, **overrides) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("name", CONDITIONAL)
def test_new_views_are_what_the_card_says(name, real_data):
    """Thirty objects: what a seen view buys within 30 per cent, errors within their intervals."""
    figures, dataset = card_and_data(name, real_data)
    before, after = figures["views"][:2]
    kept = dataset.restrict(dataset.class_names[:: len(dataset.class_names) // 30])
    model = Bruno.from_pretrained(name)
    found = novel_views(model, kept, None, given=(0, 1), targets=2, samples=8)
    prior, seen = found.by_given
    claimed = before["nll"]["mean"] - after["nll"]["mean"]
    assert prior.nll.mean - seen.nll.mean == pytest.approx(claimed, rel=0.3)
    error, claimed_error = seen.pictures["mean"].rmse, after["pictures"]["mean"]["rmse"]
    assert error.mean < claimed_error["mean"] + 2 * error.half_width
    pose_of_card = next(row for row in figures["pose"] if row["given"] == 4)
    (found_pose,) = pose(model, kept, given=(4,))
    assert found_pose.near.mean > pose_of_card["near"]["mean"] - 2 * found_pose.near.half_width


@pytest.mark.parametrize("name", sorted({*NAMES} - {*CONDITIONAL}))
def test_accuracy_of_200_episodes_is_that_of_the_card(name, real_data):
    """200 decisions about all sorts of classes; 1.5 points or their own interval are allowed."""
    figures, dataset = card_and_data(name, real_data)
    claimed = next(row for row in figures["few_shot"] if (row["way"], row["shot"]) == (5, 1))
    spread = torch.linspace(0, dataset.num_classes - 1, min(200, dataset.num_classes)).long()
    kept = dataset.restrict([dataset.class_names[i] for i in spread])
    # All images are encoded; 200 decisions need few of them.
    each = max(10, 600 // kept.num_classes)
    rows = torch.cat([kept.indices_of(label)[:each] for label in range(kept.num_classes)])
    kept = dataclasses.replace(kept, images=kept.images[rows], labels=kept.labels[rows])
    found = few_shot_accuracy(
        Bruno.from_pretrained(name),
        kept,
        way=5,
        shot=1,
        rotations=False,
        trials=-(-200 // kept.num_classes),
    )
    assert found.decisions >= 200
    allowed = max(1.5, found.accuracy.half_width)
    assert found.accuracy.mean > claimed["accuracy"]["mean"] - allowed


def test_models_that_do_not_draw_draw_only_if_they_must(tmp_path, capsys):
    out = f"--out={tmp_path / 'one.png'}"
    command = ["sample", "--pretrained=omniglot-classify", "--count=1", out]
    assert main(command) == 2
    err = capsys.readouterr().err
    assert "--pretrained: omniglot-classify does not draw what it is given: a judge named" in err
    assert "--force draws all the same" in " ".join(err.split())
    assert not (tmp_path / "one.png").exists()
    assert main([*command, "--force"]) == 0
    assert (tmp_path / "one.png").exists()


def test_evaluation_shows_the_card_beside_what_it_finds(tmp_path, capsys):
    command = ["evaluate", "--pretrained=glyphs", "--rotations=false", "--trials=1"]
    quick = ["--ways", "5", "--shots", "1", "--set-size=2", f"--out={tmp_path / 'figures.json'}"]
    assert main([*command, *quick]) == 0
    out = capsys.readouterr().out
    claimed = locate_model(None, "glyphs").card["figures"]["few_shot"][0]["accuracy"]
    assert f"5-way 1-shot {claimed['mean']:.2f} ±" in " ".join(out.split())
