r"""Conditional neural process for functions: regression in one dimension, completion of images.

A set of observations :math:`(x_i, y_i)` is represented by the mean of :math:`h(x_i, y_i)`, from
which the value at any argument is predicted, with a standard deviation:

.. math:: p(y \mid x, \{(x_i, y_i)\}) = N(y \mid \mu(x, r), \sigma^2(x, r)), \quad
          r = \tfrac{1}{n} \sum_i h(x_i, y_i)

(Garnelo et al., *Conditional Neural Processes*, ICML 2018, eqs. 1-3). Predictions at several
arguments are independent given the observations: the model has no samples of whole functions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.nn.functional import softplus

from bruno.flows.bijection import FACTORY_KWARGS
from bruno.seeding import generator_for

FunctionSource = Callable[[torch.Generator], tuple[Tensor, Tensor]]

_LEAST_STD = 0.05


class FunctionProcess(nn.Module):
    """A distribution of functions, conditioned on observations.

    Args:
        input_dim: Dimension of an argument.
        output_dim: Dimension of a value.
        hidden: Width of the networks.
    """

    def __init__(self, input_dim: int, output_dim: int, hidden: int = 128) -> None:
        super().__init__()
        self.encoder = _perceptron(input_dim + output_dim, hidden, hidden)
        self.decoder = _perceptron(input_dim + hidden, hidden, 2 * output_dim)

    def forward(self, x: Tensor, y: Tensor, at: Tensor) -> Distribution:
        """Return the distributions of the values at some arguments, batch shape ``(*B, m)``.

        Args:
            x: Arguments of the observations, ``(*B, n, input_dim)`` with n of at least 1.
            y: Their values, ``(*B, n, output_dim)``.
            at: Arguments, ``(*B, m, input_dim)``.
        """
        representation = self.encoder(torch.cat([x, y], -1)).mean(-2, keepdim=True)
        expanded = representation.expand(*at.shape[:-1], -1)
        mean, raw = self.decoder(torch.cat([at, expanded], -1)).chunk(2, -1)
        std = _LEAST_STD + (1 - _LEAST_STD) * softplus(raw)
        return Independent(Normal(mean, std, validate_args=False), 1)


def _perceptron(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    sizes = (inputs, hidden, hidden, hidden)
    layers: list[nn.Module] = []
    for first, second in itertools.pairwise(sizes):
        layers += [nn.Linear(first, second, **FACTORY_KWARGS), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden, outputs, **FACTORY_KWARGS))


def gaussian_process_functions(
    functions: int, points: int, generator: torch.Generator, *, scale: float = 0.4
) -> tuple[Tensor, Tensor]:
    """Draw functions from a Gaussian process with a squared exponential kernel.

    Args:
        functions: Number of functions B.
        points: Number of arguments of each, uniform on [-2, 2].
        generator: Source of randomness.
        scale: Length scale.

    Returns:
        Arguments and values, each ``(B, points, 1)``.
    """
    x = (
        4 * torch.rand(functions, points, 1, generator=generator, device="cpu", dtype=torch.float32)
        - 2
    )
    covariance = (-0.5 * ((x - x.transpose(1, 2)) / scale).square()).double().exp()
    covariance = covariance + 1e-4 * torch.eye(points, device="cpu", dtype=torch.float64)
    noise = torch.randn(
        functions, points, 1, generator=generator, device="cpu", dtype=torch.float32
    ).double()
    return x, (torch.linalg.cholesky(covariance) @ noise).to(x.dtype)


def images_as_functions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return images as functions from a place to a colour.

    Args:
        images: uint8 ``(B, C, H, W)``.

    Returns:
        Places in [-1, 1], ``(B, H·W, 2)``, and colours in [0, 1], ``(B, H·W, C)``.
    """
    height, width = images.shape[-2:]
    rows, columns = (
        torch.linspace(-1, 1, height, device="cpu", dtype=torch.float32),
        torch.linspace(-1, 1, width, device="cpu", dtype=torch.float32),
    )
    places = torch.cartesian_prod(rows, columns).expand(len(images), -1, -1)
    return places, images.flatten(2).transpose(1, 2).float() / 255


def train_on_functions(
    process: FunctionProcess,
    draw: FunctionSource,
    steps: int,
    *,
    seed: int = 0,
    observations: tuple[int, int] = (3, 50),
    learning_rate: float = 1e-3,
) -> list[float]:
    """Train a process to predict all values of a function from some.

    Args:
        process: The process.
        draw: Returns functions as arguments ``(B, m, input_dim)`` and values, from a generator.
        steps: Number of steps.
        seed: Seed of functions and observations.
        observations: Least and largest number of observations.
        learning_rate: Of Adam, at the start; it falls to 0 along a cosine.

    Returns:
        Negative log-likelihood of a value in nats at every step.
    """
    optimiser = torch.optim.Adam(process.parameters(), learning_rate)
    losses = []
    for step in range(steps):
        generator = generator_for(seed, step)
        x, y = draw(generator)
        least, most = observations
        number = int(torch.randint(least, most + 1, (), generator=generator, device="cpu"))
        seen = torch.randperm(x.shape[1], generator=generator, device="cpu")[:number]
        optimiser.param_groups[0]["lr"] = (
            learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        )
        optimiser.zero_grad()
        loss = -process(x[:, seen], y[:, seen], x).log_prob(y).mean()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses
