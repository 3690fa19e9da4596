import pytest
import torch

from bruno import CheckpointError, UserError
from bruno.baselines.meta_training import MetaTrainingConfig, build_system, meta_train
from bruno.baselines.prototypical import PrototypicalNetwork
from bruno.evaluation.generation import shipped_judge
from bruno.seeding import generator_for
from tests.baselines.squares import squares


def test_log_probabilities_are_those_of_squared_distances_to_means():
    network = PrototypicalNetwork((1, 16, 16), filters=2).eval()
    query = torch.tensor([[1.0, 0.0]])
    support = torch.tensor([[0.4, 0.0], [0.6, 0.0], [0.0, 1.0], [0.0, 1.0]])
    expected = torch.tensor([[-0.25, -2.0]]).log_softmax(-1)
    log_prob = network.log_prob(query, support, torch.tensor([0, 0, 1, 1]), 2)
    torch.testing.assert_close(log_prob, expected)


def test_it_is_saved_and_loaded(tmp_path):
    network = build_system(PrototypicalNetwork, squares("train"), 0)
    config = MetaTrainingConfig(cpu_minutes=None, steps=20, validations=2, validation_episodes=2)
    meta_train(network, squares("train"), squares("val"), config)
    sets = squares("test").images.view(12, 12, 1, 16, 16)
    scores = network.scores(sets[:, :4], sets[:, 5])
    assert (scores.argmax(1) == torch.arange(12)).float().mean() > 0.9
    network.save(tmp_path / "judge.safetensors", {"command": "none"})
    loaded = PrototypicalNetwork.load(tmp_path / "judge.safetensors")
    torch.testing.assert_close(loaded.scores(sets[:, :4], sets[:, 5]), scores, atol=0.2, rtol=0.02)


def test_what_is_no_network_is_refused(tmp_path):
    (tmp_path / "judge.safetensors").write_bytes(b"none")
    with pytest.raises(CheckpointError, match=r"judge.safetensors: cannot be read"):
        PrototypicalNetwork.load(tmp_path / "judge.safetensors")
    with pytest.raises(UserError, match=r"at least 16 x 16 pixels, got \(1, 8, 8\)"):
        PrototypicalNetwork((1, 8, 8))


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
