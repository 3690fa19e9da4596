r"""Neural statistician: a variational autoencoder of sets with a latent context of each set.

.. math:: p(D) = \int p(c) \prod_i \int p(x_i \mid z_i, c)\, p(z_i \mid c)\, dz_i\, dc

with an approximate posterior :math:`q(c \mid D)` from pooled features of the set (Edwards and
Storkey, *Towards a Neural Statistician*, ICLR 2017, eqs. 5-8). A query is of the class with the
least :math:`KL(q(c \mid D_k) \,\|\, q(c \mid x))`. Widths are a quarter of the published ones: the
context has 128 dimensions and not 512.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from bruno.baselines.embedding import MeanSystem
from bruno.baselines.encoder import Conv4, computes_in_bfloat16
from bruno.baselines.interface import Abilities, EpisodePlan
from bruno.data.sets import Episode
from bruno.flows.bijection import FACTORY_KWARGS

_CONTEXT, _LATENT, _HIDDEN, _MAPS = 128, 16, 128, 32
Gaussian = tuple[Tensor, Tensor]
"""Mean and logarithm of the variance."""


def kl_divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """Return KL(q || p) of diagonal Gaussians in nats, ``(*B, D) -> (*B,)``.

    Args:
        q: Mean and log-variance.
        p: Mean and log-variance; shapes broadcast.
    """
    ratio = (q[1] - p[1]).exp() + (q[0] - p[0]).square() * (-p[1]).exp()
    return 0.5 * (ratio - 1 + p[1] - q[1]).sum(-1)


class NeuralStatistician(MeanSystem):
    """The system with Conv4 as its encoder and one layer of latent variables of an image.

    Args:
        event_shape: Shape of an image, ``(C, H, W)``, height and width divisible by 4.
        num_classes: Number of training classes, which it does not depend on.
    """

    title: ClassVar[str] = "Neural statistician"
    abilities: ClassVar[Abilities] = Abilities(sampling=True, streaming=True, forgetting=True)
    plan: ClassVar[EpisodePlan] = EpisodePlan(ways=(60,), queries=4)

    def __init__(self, event_shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__(event_shape, num_classes)
        channels, height, width = event_shape
        self.encoder = Conv4(event_shape)
        dim = self.encoder.dim
        self.context = _perceptron(dim, 2 * _CONTEXT)
        self.posterior = _perceptron(dim + _CONTEXT, 2 * _LATENT)
        self.prior = _perceptron(_CONTEXT, 2 * _LATENT)
        size = (2 * _MAPS, height // 4, width // 4)
        self.decoder = nn.Sequential(
            _perceptron(_CONTEXT + _LATENT, torch.Size(size).numel()),
            nn.Unflatten(1, size),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * _MAPS, _MAPS, 4, 2, 1, **FACTORY_KWARGS),
            nn.ReLU(),
            nn.ConvTranspose2d(_MAPS, channels, 4, 2, 1, **FACTORY_KWARGS),
        )

    def embed(self, images: Tensor) -> Tensor:
        """Return the features of uint8 images, ``(N, C, H, W) -> (N, F)``."""
        embedded: Tensor = self.encoder(images)
        return embedded

    def loss(self, episode: Episode, generator: torch.Generator) -> Tensor:
        """Return the negative lower bound of the likelihood of an image, in nats.

        Args:
            episode: The episode; examples and queries of a class are one set.
            generator: Source of the latent variables.
        """
        images = torch.cat([episode.support, episode.query], 1)
        sets, n = images.shape[:2]
        features = self.embed(images.flatten(0, 1)).unflatten(0, (sets, n))
        of_context = _gaussian(self.context(features.mean(1)))
        nothing = torch.zeros_like(of_context[0])
        context = _sample(of_context, generator).unsqueeze(1).expand(-1, n, -1)
        of_latent = _gaussian(self.posterior(torch.cat([features, context], -1)))
        latent = _sample(of_latent, generator)
        logits = self.decode(context, latent)
        ink = (images.flatten(0, 1) > 127).to(logits)
        reconstruction = binary_cross_entropy_with_logits(logits, ink, reduction="sum") / sets
        divergence = kl_divergence(of_latent, _gaussian(self.prior(context))).sum(1).mean()
        divergence = divergence + kl_divergence(of_context, (nothing, nothing)).mean()
        return (reconstruction + divergence) / n

    def decode(self, context: Tensor, latent: Tensor) -> Tensor:
        """Return the logits of ink, ``(N, C, H, W)``.

        Args:
            context: ``(*B, 128)``.
            latent: ``(*B, 16)``; N is the product of B.
        """
        both = torch.cat([context, latent], -1).flatten(0, -2)
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bfloat16()):
            logits: Tensor = self.decoder(both)
        return logits.to(both)

    def log_prob_given_means(self, query: Tensor, means: Tensor) -> Tensor:
        """Return a softmax of the negative divergences of the contexts, ``(Q, K)``.

        Args:
            query: Features of queries, ``(Q, F)``.
            means: Mean features of every class, ``(K, F)``.
        """
        of_class, of_query = _gaussian(self.context(means)), _gaussian(self.context(query))
        one = (of_query[0].unsqueeze(1), of_query[1].unsqueeze(1))
        return (-kl_divergence(of_class, one)).log_softmax(-1)

    @torch.no_grad()
    def sample(self, support: Tensor, number: int, generator: torch.Generator) -> Tensor:
        """Return images drawn given examples of a class: probabilities of ink.

        Args:
            support: uint8 images of one class, ``(N, C, H, W)`` with N of at least 1.
            number: Number of images.
            generator: Source of randomness.
        """
        mean, _ = _gaussian(self.context(self.embed(support).mean(0, keepdim=True)))
        context = mean.expand(number, -1)
        return self.decode(context, _sample(_gaussian(self.prior(context)), generator)).sigmoid()


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    first = nn.Linear(inputs, _HIDDEN, **FACTORY_KWARGS)
    return nn.Sequential(first, nn.ELU(), nn.Linear(_HIDDEN, outputs, **FACTORY_KWARGS))


def _gaussian(parameters: Tensor) -> Gaussian:
    mean, log_variance = parameters.chunk(2, -1)
    return mean, log_variance.clamp(-10, 10)


def _sample(gaussian: Gaussian, generator: torch.Generator) -> Tensor:
    noise = torch.randn(gaussian[0].shape, generator=generator, device="cpu", dtype=torch.float32)
    return gaussian[0] + (0.5 * gaussian[1]).exp() * noise
