"""Memory-augmented network, neural process and neural statistician, against numbers by hand."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence
from torch.nn.functional import binary_cross_entropy_with_logits

from bruno.baselines.interface import EpisodePlan
from bruno.baselines.mann import MemoryAugmentedNetwork
from bruno.baselines.meta_training import MetaTrainingConfig, build_system, meta_train
from bruno.baselines.neural_process import NeuralProcess
from bruno.baselines.neural_process_regression import (
    FunctionProcess,
    gaussian_process_functions,
    images_as_functions,
    train_on_functions,
)
from bruno.baselines.neural_statistician import NeuralStatistician
from bruno.baselines.neural_statistician import kl_divergence as divergence
from bruno.data.sets import Episode
from bruno.seeding import generator_for
from tests.baselines.squares import squares

SHAPE = (1, 16, 16)


def test_memory_is_written_to_the_slot_just_read_or_to_the_least_used_ones():
    memory = MemoryAugmentedNetwork(SHAPE).memory
    image = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    with torch.no_grad():
        memory.keys.weight.zero_()
        # Keys of 1; the gate is open for what was read (head 0) or shut (the others).
        bias = torch.zeros(4, 42)
        bias[:, :-2], bias[:, -2] = 20.0, -20.0
        bias[0, -2] = 20.0
        memory.keys.bias.copy_(bias.flatten())
    state = memory.start(1)
    usage = torch.arange(128.0).flip(0) + 1  # slots 127, 126, 125 and 124 are least used
    read = torch.zeros(1, 4, 128)
    read[0, :, 7] = 1.0
    full = torch.full_like(state.memory, 5.0)
    state = state._replace(usage=usage[None], read=read, memory=full)
    after, logits = memory.step(state, image)
    assert logits.shape == (1, 20)
    written = after.memory[0].mean(1)
    assert written[127].item() == pytest.approx(0.0, abs=1e-3)  # erased; head 0 wrote elsewhere
    assert written[7].item() == pytest.approx(6.0)
    for slot in (124, 125, 126):
        assert written[slot].item() == pytest.approx(6.0)
    assert (written[8:124] == 5.0).all()
    expected = 0.95 * usage + after.read[0].sum(0)
    expected[[7, 124, 125, 126]] += 1
    torch.testing.assert_close(after.usage[0], expected)
    torch.testing.assert_close(after.read.sum(-1), torch.ones(1, 4))


def test_the_controller_takes_what_was_read_before():
    memory = MemoryAugmentedNetwork(SHAPE).memory
    image = torch.zeros(1, *SHAPE, dtype=torch.uint8)
    state, _ = memory.step(memory.start(1), image)
    expected = (state.read @ state.memory).flatten(1)
    torch.testing.assert_close(state.contents, expected)
    hidden = memory.step(state, image)[0].hidden
    without = memory.step(state._replace(contents=torch.zeros_like(expected)), image)[0].hidden
    assert not torch.allclose(hidden, without)


def test_the_class_is_shown_after_it_was_predicted():
    system = MemoryAugmentedNetwork(SHAPE)
    images = squares("train").images.view(1, 12, 12, *SHAPE)[:, :3, :4]
    first, truth = system.presented(images, generator_for(0))
    assert first.shape == (1, 12, 3)
    assert truth.shape == (1, 12)
    assert truth[0].bincount().tolist() == [4, 4, 4]
    accuracy = system.accuracy_by_presentation(images, generator_for(0))
    correct = (first.argmax(-1) == truth).double()[0]
    seen = [int((truth[0, :t] == truth[0, t]).sum()) for t in range(12)]
    for k in range(4):
        expected = correct[[t for t in range(12) if seen[t] == k]].mean()
        torch.testing.assert_close(accuracy[k], expected)


class QuickMemory(MemoryAugmentedNetwork):
    learning_rate = 5e-3
    plan = EpisodePlan(ways=(3,))


def test_a_memory_network_learns_slowly_which_class_comes_next():
    dataset = squares("train")
    system = build_system(QuickMemory, dataset, 0)
    config = MetaTrainingConfig(cpu_minutes=None, steps=120, validations=1, validation_episodes=1)
    meta_train(system, dataset, squares("val"), config)
    images = dataset.images.view(12, 12, *SHAPE)
    chosen = torch.stack(
        [torch.randperm(12, generator=generator_for(5, task))[:3] for task in range(60)]
    )
    scores, truth = system.presented(images[chosen][:, :, :4], generator_for(1))
    accuracy = (scores.argmax(-1) == truth).double().mean()
    assert accuracy > 0.38  # chance is 0.333, its standard deviation here 0.018


def test_the_first_layer_of_the_neural_process_acts_on_pairs():
    system = NeuralProcess(SHAPE).eval()
    query, means = torch.randn(2, system.encoder.dim), torch.randn(3, system.encoder.dim)
    weight = torch.cat([system.of_query.weight, system.of_class.weight], 1)
    scores = [
        [system.decide(weight @ torch.cat([q, m]) + system.of_class.bias) for m in means]
        for q in query
    ]
    expected = torch.tensor([[float(s.detach()) for s in row] for row in scores]).log_softmax(-1)
    log_prob = system.log_prob_given_means(query, means).detach()
    torch.testing.assert_close(log_prob, expected)


def test_functions_are_predicted_from_observations_in_any_order():
    process = FunctionProcess(1, 1, hidden=16)
    x, y = gaussian_process_functions(2, 9, generator_for(0))
    first = process(x[:, :6], y[:, :6], x)
    second = process(x[:, :6].flip(1), y[:, :6].flip(1), x)
    assert first.log_prob(y).shape == (2, 9)
    torch.testing.assert_close(first.mean, second.mean)
    assert (first.stddev >= 0.05).all()


def test_functions_have_the_kernel_they_are_drawn_with():
    x, y = gaussian_process_functions(4000, 2, generator_for(1))
    near = ((x[:, 0] - x[:, 1]).abs() < 0.4).squeeze(1)
    correlation = (y[near, 0] * y[near, 1]).mean().item()
    gaps = (x[near, 0] - x[near, 1]) / 0.4
    expected = (-0.5 * gaps.square()).exp().mean().item()
    assert correlation == pytest.approx(expected, abs=0.15)
    assert y.var().item() == pytest.approx(1, abs=0.1)


def test_the_process_learns_functions_better_than_their_prior():
    process = FunctionProcess(1, 1, hidden=32)
    losses = train_on_functions(
        process,
        lambda generator: gaussian_process_functions(16, 40, generator, scale=1.0),
        100,
        observations=(5, 20),
        learning_rate=3e-3,
    )
    prior = 0.5 * math.log(2 * math.pi * math.e)  # of values that are standard normal
    assert sum(losses[:5]) / 5 > prior - 0.05
    assert sum(losses[-20:]) / 20 < prior - 0.15


def test_images_are_functions_of_places():
    places, colours = images_as_functions(torch.arange(6, dtype=torch.uint8).view(1, 1, 2, 3))
    assert places.shape == (1, 6, 2)
    assert places[0, 2].tolist() == [-1, 1]
    torch.testing.assert_close(colours[0, :, 0], torch.arange(6) / 255)


def test_the_divergence_of_gaussians_is_that_of_torch():
    q, p = ((torch.randn(3, 5), torch.randn(3, 5)) for _ in range(2))
    normal = [Normal(mean, (0.5 * log).exp()) for mean, log in (q, p)]
    torch.testing.assert_close(divergence(q, p), kl_divergence(*normal).sum(-1))


def test_the_bound_of_a_statistician_without_uncertainty(monkeypatch):
    system = NeuralStatistician(SHAPE).eval()
    for part in (system.context, system.posterior, system.prior):
        torch.nn.init.zeros_(part[-1].weight)
        torch.nn.init.zeros_(part[-1].bias)
    # All posteriors equal their priors, so that only the reconstruction is left.
    logits = torch.full((6, *SHAPE), 0.7)
    monkeypatch.setattr(system, "decode", lambda _context, _latent: logits)
    images = squares("train").images[:6].view(2, 3, *SHAPE)
    episode = Episode(images[:, :1], images[:, 1:], torch.arange(2))
    ink = (images.flatten(0, 1) > 127).float()
    expected = binary_cross_entropy_with_logits(logits, ink, reduction="sum") / 6
    torch.testing.assert_close(system.loss(episode, generator_for(0)), expected)
    with torch.no_grad():
        system.context[-1].bias[:128] = 0.5  # mean 1/2 in each of 128 dimensions, of 3 images
    torch.testing.assert_close(
        system.loss(episode, generator_for(0)), expected + 128 * 0.5 * 0.25 / 3
    )


def test_the_bound_is_below_the_likelihood_of_a_set():
    # One pixel of evidence: with a context alone, the set has an exact Gaussian likelihood.
    x = torch.tensor([0.4, -0.1, 0.3])
    exact = MultivariateNormal(torch.zeros(3), torch.ones(3, 3) + torch.eye(3)).log_prob(x)
    mean, variance = x.sum() / 4, torch.tensor(0.25)  # the exact posterior of the context
    expected_fit = sum(Normal(0.0, 1.0).log_prob(one - mean) - 0.5 * variance for one in x)
    bound = expected_fit - divergence(
        (mean.view(1), variance.log().view(1)), (torch.zeros(1), torch.zeros(1))
    )
    torch.testing.assert_close(bound, exact)


def test_samples_of_a_statistician_are_probabilities_of_ink():
    system = NeuralStatistician(SHAPE).eval()
    drawn = system.sample(squares("train").images[:3], 4, generator_for(0))
    assert drawn.shape == (4, *SHAPE)
    assert 0 <= drawn.min() <= drawn.max() <= 1
