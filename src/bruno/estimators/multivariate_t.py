"""Multivariate Student-t distributions: what classes with covariances of their own predict."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bruno import chunks

# Without an element at least this share of the scatter along it is left: that of the prior.
_LEAST_LEFT = 1e-9


@dataclass(frozen=True)
class OwnClasses:
    """Classes with covariances of their own, given their examples.

    Attributes:
        mean: Posterior means, ``(K, D)``.
        root: Cholesky factors of the scatter matrices, those of the prior included, ``(K, D, D)``.
        strength: Examples of each, those of the prior of the mean included, ``(K,)``.
        degrees: Degrees of freedom of the predictive distributions, ν + n − D + 1, ``(K,)``.
    """

    mean: Tensor
    root: Tensor
    strength: Tensor
    degrees: Tensor

    @property
    def log_det(self) -> Tensor:
        """Log-determinants of the scatter matrices, ``(K,)``."""
        return 2 * self.root.diagonal(dim1=1, dim2=2).log().sum(1)

    @property
    def whitening(self) -> Tensor:
        """Maps of deviations to uncorrelated dimensions, ``(K, D, D)``."""
        identity = torch.eye(self.root.shape[-1], dtype=self.root.dtype, device=self.root.device)
        whitening: Tensor = torch.linalg.solve_triangular(self.root, identity, upper=False).mT
        return whitening

    def log_prob(self, z: Tensor) -> Tensor:
        """Return log-densities of latent vectors, in nats, ``(Q, K)``.

        Args:
            z: Latent vectors, ``(Q, D)``.
        """
        number = chunks.rows_per_chunk(z.shape[1] * len(self.mean), chunks.MEMORY_ELEMENTS)
        whitening = self.whitening
        offset = torch.einsum("kd,kde->ke", self.mean, whitening)
        parts = []
        for part in z.split(number):
            distance = torch.einsum("qd,kde->qke", part, whitening) - offset
            squared = distance.square().sum(-1)
            parts.append(student_t(squared, self.log_det, self.strength, self.degrees, z.shape[1]))
        return torch.cat(parts) if parts else z.new_zeros(0, len(self.mean))

    def without_itself(self, z: Tensor, classes: Tensor, held: Tensor) -> Tensor:
        """Return log-densities of elements given the rest of their classes, ``(N,)``.

        Args:
            z: Latent vectors of the elements, ``(N, D)``.
            classes: Class of each, ``(N,)``.
            held: How often each is left out, ``(N,)``.
        """
        parts = []
        number = chunks.rows_per_chunk(z.shape[1] ** 2, chunks.MEMORY_ELEMENTS)
        columns = (each.split(number) for each in (z, classes, held))
        for part, own, once in zip(*columns, strict=True):
            strength = self.strength[own]
            left = strength - once
            residual = (part - self.mean[own]).unsqueeze(2)
            whitened = torch.linalg.solve_triangular(self.root[own], residual, upper=False)
            squared = whitened[..., 0].square().sum(1)
            rest = (1 - once * strength / left * squared).clamp_min(_LEAST_LEFT)
            parts.append(
                student_t(
                    (strength / left).square() * squared / rest,
                    self.log_det[own] + rest.log(),
                    left,
                    self.degrees[own] - once,
                    z.shape[1],
                )
            )
        return torch.cat(parts)

    def sample(self, number: int, generator: torch.Generator, latent_scale: float = 1.0) -> Tensor:
        """Return draws of the one class that this is, ``(number, D)``.

        Args:
            number: How many.
            generator: Source of randomness.
            latent_scale: Factor of the deviations from the mean.
        """
        degrees = self.degrees.cpu().expand(number) / 2
        gamma = torch._standard_gamma(degrees, generator=generator).to(self.mean)
        shape = (number, self.mean.shape[1])
        normal = torch.randn(shape, generator=generator, dtype=self.mean.dtype, device="cpu").to(
            self.mean
        )
        wider = (1 + 1 / self.strength) / (2 * gamma)
        wide = latent_scale * wider.sqrt()
        return self.mean + wide.unsqueeze(1) * (normal @ self.root[0].T)


def student_t(
    squared: Tensor, log_det: Tensor, strength: Tensor, degrees: Tensor, dim: int
) -> Tensor:
    """Return predictive log-densities.

    Args:
        squared: Distances from the mean in units of the scatter matrix, squared.
        log_det: Log-determinant of that matrix.
        strength: Examples, those of the prior of the mean included.
        degrees: Degrees of freedom.
        dim: Dimension.
    """
    return (
        torch.lgamma((degrees + dim) / 2)
        - torch.lgamma(degrees / 2)
        - 0.5 * dim * (math.pi * (1 + 1 / strength)).log()
        - 0.5 * log_det
        - 0.5 * (degrees + dim) * torch.log1p(squared / (1 + 1 / strength))
    )


def log_multivariate_gamma(a: Tensor, dim: int) -> Tensor:
    """Return the logarithm of the multivariate gamma function, without its power of π.

    Args:
        a: Its argument, of any shape.
        dim: Its dimension.
    """
    halves = 0.5 * torch.arange(dim, device=a.device, dtype=a.dtype)
    return torch.lgamma(a.unsqueeze(-1) - halves).sum(-1)
