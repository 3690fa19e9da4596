import pytest
import torch

from bruno import CheckpointError, UserError
from bruno.baselines.prototypical import (
    PrototypicalConfig,
    PrototypicalNetwork,
    train_prototypical,
)
from bruno.data.dataset import LabelledImages
from bruno.evaluation.generation import shipped_judge
from bruno.seeding import generator_for


def crosses(split, classes=12, images=12):
    """Images whose class is the place of a bright square, under noise of their own."""
    generator = generator_for(classes, len(split))
    noise = torch.randint(0, 60, (classes * images, 1, 16, 16), generator=generator)
    labels = torch.arange(classes).repeat_interleave(images)
    for index, label in enumerate(labels.tolist()):
        row, column = 4 * (label // 4) + 1, 4 * (label % 4)
        noise[index, 0, row : row + 3, column : column + 3] = 250
    names = tuple(f"{index:02}" for index in range(classes))
    return LabelledImages(noise.byte(), labels, names, "squares", split)


def test_log_probabilities_are_those_of_squared_distances_to_means():
    network = PrototypicalNetwork((1, 16, 16), filters=2).eval()
    network.layers = torch.nn.Flatten()
    examples = torch.zeros(2, 2, 1, 1, 2, dtype=torch.uint8)
    examples[0, :, 0, 0, 0] = torch.tensor([102, 153])  # 0.4 and 0.6: a mean of 0.5
    examples[1, :, 0, 0, 1] = 255
    image = torch.tensor([[[[255, 0]]]], dtype=torch.uint8)
    expected = torch.tensor([[-0.25, -2.0]]).log_softmax(-1)
    torch.testing.assert_close(network.log_prob(examples, image), expected)


def test_it_learns_and_is_saved_and_loaded(tmp_path):
    rows = []
    config = PrototypicalConfig(way=6, shot=2, queries=2, episodes=30, validate_every=10)
    network = train_prototypical(crosses("train"), crosses("val"), config, rows.append)
    assert rows[-1]["accuracy"] > 0.9
    sets = crosses("test").images.view(12, 12, 1, 16, 16)
    scores = network.scores(sets[:, :4], sets[:, 5])
    assert (scores.argmax(1) == torch.arange(12)).float().mean() > 0.9
    network.save(tmp_path / "judge.safetensors", {"command": "none"})
    loaded = PrototypicalNetwork.load(tmp_path / "judge.safetensors")
    torch.testing.assert_close(loaded.scores(sets[:, :4], sets[:, 5]), scores, atol=0.1, rtol=0.01)


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "judge.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError, match=r"judge.safetensors: cannot be read"):
        PrototypicalNetwork.load(tmp_path / "judge.safetensors")
    with pytest.raises(UserError, match=r"at least 16 x 16 pixels, got \(1, 8, 8\)"):
        PrototypicalNetwork((1, 8, 8))
    with pytest.raises(UserError, match="way: expected a number of at least 2, got 1"):
        PrototypicalConfig(way=1)


def test_the_judge_of_the_package_names_characters_of_test_scripts(real_data):
    from bruno.data import DataConfig, load_dataset
    from bruno.data.sets import sample_sets

    config = DataConfig(name="omniglot", data_dir=str(real_data("omniglot")))
    sets = sample_sets(load_dataset(config, "test"), 20, 10, generator_for(0)).images
    judge = shipped_judge((1, 28, 28))
    named = judge(sets[:, :6], sets[:, 6:].flatten(0, 1)).argmax(1).view(20, 4)
    assert (named == torch.arange(20)[:, None]).float().mean() > 0.9
    with pytest.raises(UserError, match="judge: expected a model that names images of shape"):
        shipped_judge((3, 32, 32))
