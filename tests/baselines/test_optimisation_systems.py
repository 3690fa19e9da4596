"""MAML and the LSTM meta-learner against gradients and steps found by hand."""

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from bruno.baselines import lstm_meta_learner
from bruno.baselines.functional_convnet import initial_parameters, logits
from bruno.baselines.lstm_meta_learner import LstmMetaLearner, preprocess
from bruno.baselines.maml import FirstOrderMaml, Maml

SHAPE = (1, 16, 16)


def linear(parameters, images, given):
    """A learner of one weight: the logit of class 1 is the weight times the first pixel."""
    x = images[:, 0, 0, 0].to(parameters["w"])
    scores = parameters["w"] * x
    return torch.stack([torch.zeros_like(scores), scores], 1)


@pytest.mark.parametrize("kind", [Maml, FirstOrderMaml])
def test_maml_is_the_gradient_through_a_step_of_gradient_descent(monkeypatch, kind):
    monkeypatch.setattr("bruno.baselines.maml.logits", linear)
    support = torch.tensor([1, 2], dtype=torch.uint8).view(2, 1, 1, 1)
    labels = torch.tensor([0, 1])
    w = torch.tensor(0.3, requires_grad=True)
    fitted = kind(SHAPE).fit({"w": w}, support, labels, training=True)["w"]

    def sigmoid(x):
        return 1 / (1 + math.exp(-x))

    # d/dw of the mean of softplus(w) and softplus(-2 w), and its derivative.
    slope = (sigmoid(0.3) - 2 * sigmoid(-0.6)) / 2
    curvature = (sigmoid(0.3) * sigmoid(-0.3) + 4 * sigmoid(0.6) * sigmoid(-0.6)) / 2
    assert fitted.item() == pytest.approx(0.3 - 0.4 * slope)
    (gradient,) = torch.autograd.grad(fitted, w)
    expected = 1.0 if kind is FirstOrderMaml else 1 - 0.4 * curvature
    assert gradient.item() == pytest.approx(expected)


def test_maml_makes_five_smaller_steps_with_more_classes(monkeypatch):
    monkeypatch.setattr("bruno.baselines.maml.logits", lambda p, x, _: p["w"].expand(len(x), 6))
    images, labels = torch.zeros(6, 1, 1, 1), torch.arange(6)
    start = torch.tensor([1.0, 0, 0, 0, 0, 0])
    expected = start.clone()
    for _ in range(5):
        expected = expected - 0.1 * (expected.softmax(0) - 1 / 6)
    for training in (True, False):
        fitted = Maml(SHAPE).fit({"w": start}, images, labels, training=training)["w"]
        torch.testing.assert_close(fitted, expected)


def test_maml_solves_a_task_of_few_classes_by_three_steps(monkeypatch):
    monkeypatch.setattr("bruno.baselines.maml.logits", lambda p, x, _: p["w"].expand(len(x), 2))
    system, images, labels = Maml(SHAPE), torch.zeros(2, 1, 1, 1), torch.arange(2)
    start = torch.tensor([1.0, 0.0])
    system.initial = torch.nn.ParameterDict({"w": start})
    expected = start.clone()
    for _ in range(3):
        expected = expected - 0.4 * (expected.softmax(0) - 1 / 2)
    torch.testing.assert_close(system.adapt(images, labels).parameters["w"], expected)


def test_batch_norm_takes_its_statistics_from_the_examples_alone():
    parameters = initial_parameters(SHAPE, 4, 3)
    images = torch.randint(0, 256, (7, 1, 16, 16), dtype=torch.uint8)
    together = logits(parameters, images, 5)
    for query in (5, 6):
        alone = logits(parameters, images[[0, 1, 2, 3, 4, query]], 5)
        torch.testing.assert_close(together[query], alone[5], atol=1e-3, rtol=1e-3)
    assert not torch.allclose(together[:5], logits(parameters, images, 7)[:5], atol=1e-4)


def test_gradients_are_preprocessed_by_logarithm_and_sign():
    x = torch.tensor([1.0, -math.exp(-5), math.exp(-11), 0.0])
    expected = torch.tensor([[0.0, 1.0], [-0.5, -1.0], [-1.0, math.exp(-1)], [-1.0, 0.0]])
    torch.testing.assert_close(preprocess(x), expected)


def test_a_step_forgets_and_descends(monkeypatch):
    monkeypatch.setattr(lstm_meta_learner, "_STEPS", 1)
    monkeypatch.setattr(lstm_meta_learner, "logits", linear)
    system = LstmMetaLearner(SHAPE)
    system.initial = torch.nn.ParameterDict({"w": torch.tensor([0.3])})
    for gate, bias in ((system.forget, 2.0), (system.rate, -1.0)):
        torch.nn.init.zeros_(gate.weight)
        torch.nn.init.constant_(gate.bias, bias)
    support = torch.tensor([1, 2], dtype=torch.uint8).view(2, 1, 1, 1)
    labels = torch.tensor([0, 1])
    w = torch.tensor([0.3], requires_grad=True)
    (slope,) = torch.autograd.grad(cross_entropy(linear({"w": w}, support, 2), labels), w)
    forget, rate = torch.tensor([2.0, -1.0]).sigmoid()
    fitted = system.fit(support, labels)["w"]
    torch.testing.assert_close(fitted, forget * 0.3 - rate * slope)
    # Derivatives of the slope are left out.
    (gradient,) = torch.autograd.grad(fitted, system.initial["w"])
    torch.testing.assert_close(gradient, forget.view(1))
