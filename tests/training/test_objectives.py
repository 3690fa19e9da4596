import math

import pytest
import torch

from bruno import Evidence, UserError
from bruno.seeding import generator_for
from bruno.training.objectives import (
    Losses,
    Objective,
    ObjectiveConfig,
    classify_remaining,
    predict_remaining,
)
from tests.test_model import draw, make_model, processes


@processes
@pytest.mark.parametrize("shot", [1, 2, 3])
@pytest.mark.parametrize("supports", [1, 2, 4, 99])
@torch.no_grad()
def test_classification_equals_going_through_every_support_and_query(process, shot, supports):
    model = make_model(process)
    sets, n = 3, 4
    z = model.encode(draw(model.event_shape, sets, n))
    losses, right = [], []
    for k in range(min(supports, n)):
        start = k * n // min(supports, n)
        support = [(start + i) % n for i in range(shot)]
        predictives = [model.process.predictive(Evidence.of(z[c, support])) for c in range(sets)]
        for truth in range(sets):
            for query in set(range(n)) - set(support):
                scores = torch.stack([p.log_prob(z[truth, query]) for p in predictives])
                losses.append(-scores.log_softmax(0)[truth])
                right.append(float(scores.argmax() == truth))
    cross_entropy, accuracy = classify_remaining(model.process, z, shot, supports)
    torch.testing.assert_close(cross_entropy, torch.stack(losses).mean())
    assert float(accuracy) == pytest.approx(sum(right) / len(right))


@processes
def test_losses_are_what_they_say(process):
    model = make_model(process)
    x = draw(model.event_shape, 3, 4)
    config = ObjectiveConfig(generative_weight=2.0, discriminative_weight=0.5, shots=(1,))
    losses = Objective(model, config)(x, 1)
    torch.testing.assert_close(losses.nll, -model.log_prob(x).mean() / 4)
    cross_entropy, accuracy = classify_remaining(model.process, model.encode(x), 1, 4)
    torch.testing.assert_close(losses.cross_entropy, cross_entropy)
    torch.testing.assert_close(losses.accuracy, accuracy)
    torch.testing.assert_close(losses.loss, 2.0 * losses.nll / 16 + 0.5 * losses.cross_entropy)
    losses.loss.backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters())


def test_without_discriminative_weight_nothing_is_classified():
    model = make_model()
    config = ObjectiveConfig(generative_weight=1.0, discriminative_weight=0.0)
    losses = Objective(model, config)(draw(model.event_shape, 2, 3), 1)
    assert isinstance(losses, Losses)
    assert losses.cross_entropy.isnan()
    torch.testing.assert_close(losses.loss, losses.nll / 16)


def test_a_support_must_leave_a_query():
    with pytest.raises(UserError, match="shot: expected fewer than the 4 images"):
        classify_remaining(make_model().process, torch.zeros(2, 4, 16), 4, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"generative_weight": -1.0}, "non-negative generative_weight"),
        ({"generative_weight": math.nan}, "one of them positive, got nan and 1"),
        ({"discriminative_weight": math.inf}, "non-negative generative_weight"),
        ({"generative_weight": 0.0, "discriminative_weight": 0.0}, "one of them positive"),
        ({"shots": ()}, "shots: expected positive"),
        ({"shots": (0,)}, "shots: expected positive"),
        ({"supports": -1}, "supports: expected a whole number of at least 0"),
        ({"prediction_weight": -1.0}, "prediction_weight: expected a finite number"),
    ],
)
def test_bad_objectives_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        ObjectiveConfig(**arguments)


def labelled(sets=3, n=4):
    model = make_model(context_dim=2)
    generator = generator_for(5)
    context = torch.randn(sets, n, 2, generator=generator, dtype=torch.float64)
    return model, draw(model.event_shape, sets, n), context


@torch.no_grad()
def test_two_samples_estimate_the_error_of_the_mean_image_at_a_random_latent_scale():
    model, x, context = labelled(sets=2)
    z, _ = model(x, context)
    middles = (torch.arange(8) + 0.5) / 8
    expected = []
    for one in range(2):
        predictive = model.condition(x[one, :1], context[one, :1])
        for target in (-2, -1):
            for latent_scale in middles.tolist():
                label = context[one, target]
                drawn = predictive.sample(2000, label, generator_for(1), latent_scale=latent_scale)
                expected.append(((drawn.mean(0) - x[one, target]) / 256).square().mean())
    many = [part.repeat(50, *[1] * (part.ndim - 1)) for part in (z, x, context)]
    found = torch.stack(
        [predict_remaining(model, *many, 1, generator_for(2, i)) for i in range(40)]
    )
    error = found.std() / len(found) ** 0.5
    assert abs(found.mean() - torch.stack(expected).mean()) < 4 * error
    assert error < 0.05 * found.mean()


def test_predictions_reach_every_parameter():
    model, x, context = labelled()
    config = ObjectiveConfig(
        generative_weight=0.0, discriminative_weight=1e-9, prediction_weight=3.0
    )
    losses = Objective(model, config)(x, 1, context, generator_for(0))
    parts = 3 * losses.squared_error + 1e-9 * losses.cross_entropy
    torch.testing.assert_close(losses.loss, parts)
    losses.loss.backward()
    assert all(bool((p.grad != 0).any()) for p in model.parameters())


def test_a_prediction_needs_an_image_to_predict():
    model, x, context = labelled()
    z, _ = model(x, context)
    with pytest.raises(UserError, match="shot: expected fewer than the 4 images"):
        predict_remaining(model, z, x, context, 4, generator_for(0))
