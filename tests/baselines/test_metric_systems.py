"""Losses and probabilities of the metric systems and of BRUNO, against numbers found by hand."""

import math

import pytest
import torch
from torch import nn

from bruno.baselines.bruno import FineTunedBruno, GenerativeBruno
from bruno.baselines.classifier import FineTunedClassifier, NearestNeighbourClassifier
from bruno.baselines.matching import MatchingNetwork, SquaredDistanceMatchingNetwork
from bruno.baselines.meta_training import build_system
from bruno.baselines.relation import RelationNetwork
from bruno.baselines.siamese import SiameseNetwork
from bruno.data.sets import Episode, sample_episode
from bruno.few_shot import classify
from bruno.seeding import generator_for
from tests.baselines.squares import squares

SHAPE = (1, 16, 16)
LABELS = torch.tensor([0, 0, 1])
SUPPORT = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
QUERY = torch.tensor([[3.0, 0.0]])


def test_matching_is_attention_over_the_examples():
    # Cosines 1, 0 and 0: attention e : 1 : 1.
    expected = torch.tensor([[math.e + 1, 1.0]]) / (math.e + 2)
    log_prob = MatchingNetwork(SHAPE).log_prob(QUERY, SUPPORT, LABELS, 2)
    torch.testing.assert_close(log_prob.exp(), expected)
    # Squared distances 4, 10 and 13.
    weights = torch.tensor([math.exp(-4), math.exp(-10), math.exp(-13)])
    expected = torch.stack([weights[0] + weights[1], weights[2]]) / weights.sum()
    log_prob = SquaredDistanceMatchingNetwork(SHAPE).log_prob(QUERY, SUPPORT, LABELS, 2)
    torch.testing.assert_close(log_prob.exp(), expected[None])


def siamese():
    network = SiameseNetwork(SHAPE)
    network.head = nn.Linear(2, 1)
    with torch.no_grad():
        network.head.weight.copy_(torch.tensor([[-1.0, -2.0]]))
        network.head.bias.fill_(4.0)
    return network


def test_siamese_takes_the_best_pair_of_every_class():
    # |a - b| is (2, 0), (3, 1) and (3, 2): log-odds 2, -1 and -3.
    log_prob = siamese().log_prob(QUERY, SUPPORT, LABELS, 2)
    torch.testing.assert_close(log_prob, torch.tensor([[2.0, -3.0]]).log_softmax(-1))


def test_siamese_weighs_pairs_of_one_class_and_of_two_equally(monkeypatch):
    network = siamese()
    points = torch.tensor([[0.0, 0.0], [4.0, 0.0], [1.0, 0.0]])
    monkeypatch.setattr(network, "embed", lambda images: points[images[:, 0, 0, 0].long()])
    image = torch.tensor([0, 1, 2], dtype=torch.uint8).view(3, 1, 1, 1, 1)
    episode = Episode(support=image[:2], query=image[[2, 1]], classes=torch.arange(2))
    # Log-odds of the first query 3 (same) and 1, of the second 0 and 4 (same).
    same = (math.log1p(math.exp(-3)) + math.log1p(math.exp(-4))) / 2
    different = (math.log1p(math.e) + math.log(2)) / 2
    assert network.loss(episode, None).item() == pytest.approx((same + different) / 2)


def test_relation_convolves_pairs_side_by_side():
    network = RelationNetwork(SHAPE, filters=3).eval()
    query, means = torch.randn(2, 3, 4, 4), torch.randn(5, 3, 4, 4)
    first = nn.Conv2d(6, 3, 3, padding=1)
    with torch.no_grad():
        first.weight.copy_(torch.cat([network.of_class.weight, network.of_query.weight], 1))
        first.bias.copy_(network.of_class.bias)
    pairs = torch.stack([torch.stack([torch.cat([m, q]) for m in means]) for q in query])
    expected = network.compare(first(pairs.flatten(0, 1))).view(2, 5)
    logits = network.relation_logits(query, means)
    torch.testing.assert_close(logits, expected)
    scores = logits.sigmoid()
    probabilities = network.log_prob_given_means(query, means).exp()
    torch.testing.assert_close(probabilities, scores / scores.sum(1, keepdim=True))


def test_relation_has_the_squared_error_of_its_scores(monkeypatch):
    network = RelationNetwork(SHAPE, filters=3)
    logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # scores 1/2, 3/4 and 1/2, 1/2
    monkeypatch.setattr(network, "relation_logits", lambda _query, _means: logits)
    episode = sample_episode(squares("train"), 2, 1, 1, generator_for(0))
    expected = (0.5**2 + 0.75**2 + 0.5**2 + 0.5**2) / 2
    assert network.loss(episode, None).item() == pytest.approx(expected)


def test_the_classifier_learns_every_rotation_as_a_class_of_its_own():
    dataset = squares("train")
    system = NearestNeighbourClassifier(SHAPE, dataset.num_classes)
    episode = system.draw(dataset, 0, generator_for(0))
    assert len(episode.classes.unique()) == 12
    for index, label in enumerate(episode.classes.tolist()):
        upright = torch.rot90(episode.support[index, 0], -(label % 4), (-2, -1))
        row, column = 4 * (label // 4 // 4) + 1, 4 * (label // 4 % 4)
        assert (upright[0, row : row + 3, column : column + 3] == 250).all()


def test_the_nearest_example_by_the_cosine():
    log_prob = NearestNeighbourClassifier(SHAPE, 2).log_prob(
        QUERY / 3, SUPPORT / torch.tensor([[1.0], [1.0], [2.0]]), LABELS, 2
    )
    torch.testing.assert_close(log_prob, torch.tensor([[10.0, 0.0]]).log_softmax(-1))


def test_fine_tuning_fits_the_examples_better_than_the_class_means(monkeypatch):
    system = FineTunedClassifier(SHAPE, 2)
    angles = torch.tensor([0.0, 0.9, 1.0, 1.9])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    monkeypatch.setattr(system, "embed", lambda images: features[images[:, 0, 0, 0].long()])
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1)
    labels = torch.tensor([0, 0, 1, 1])
    predictor = system.adapt(images, labels)
    assert (predictor.predict_log_prob(images).argmax(1) == labels).all()
    before = predictor.weight.new_tensor([features[:2].mean(0).tolist()])
    assert not torch.allclose(predictor.weight[:1], 10 * before / before.norm(), atol=0.1)


@pytest.mark.parametrize("kind", [FineTunedBruno, GenerativeBruno])
def test_bruno_is_the_few_shot_classification_of_the_library(kind):
    dataset = squares("train")
    system = build_system(kind, dataset, 0).eval()
    support, labels = dataset.images[:36], dataset.labels[:36]
    expected, _ = classify(system.model, support, labels, dataset.images[36:40])
    log_prob = system.adapt(support, labels).predict_log_prob(dataset.images[36:40])
    torch.testing.assert_close(log_prob, expected)


def test_the_losses_of_bruno_are_those_of_its_objective():
    dataset = squares("train")
    generative, tuned = (
        build_system(kind, dataset, 0).eval() for kind in (GenerativeBruno, FineTunedBruno)
    )
    episode = generative.draw(dataset, 0, generator_for(0))
    x = torch.cat([episode.support, episode.query], 1)
    first, second = (s.loss(episode, generator_for(1)) for s in (generative, tuned))
    from bruno.data.sets import dequantise

    joint = generative.model.log_prob(dequantise(x, generator_for(1)))
    torch.testing.assert_close(first, -joint.mean() / x.shape[1] / 256, rtol=1e-3, atol=1e-3)
    assert second > 0.1 * first  # the cross-entropy comes on top
