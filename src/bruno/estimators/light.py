"""One element at a time in numpy, where every call of torch would take longer than its work.

For models of vectors on the CPU in double precision, whose map is a chain of fixed layers: the same
formulas as those of the layers and processes, equal to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from bruno.estimators.marginal_likelihood import log_gamma_ratio
from bruno.estimators.own_covariance import OwnCovariance
from bruno.evidence import Evidence
from bruno.flows import RealNVP
from bruno.flows.affine import ActivationNorm, FullAffine, LowRankAffine
from bruno.flows.yeo_johnson import YeoJohnson
from bruno.model import Bruno
from bruno.processes import ExchangeableGaussian, ExchangeableStudentT

# Numbers up to this, and sums of very many of their squares, are finite; others take the long way,
# which names the error.
_LARGEST = 1e100

Layer = Callable[[np.ndarray], np.ndarray]
"""Maps one element ``(D,)``."""


@dataclass(frozen=True)
class LightEvidence:
    """Evidence of one class, of elements without missing entries; immutable.

    Attributes:
        count: Number of elements, or the sum of their weights.
        mean: Their mean, ``(D,)``.
        scatter: Sum of squares about it, ``(D,)``.
    """

    count: float
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, evidence: Evidence) -> LightEvidence:
        """Return evidence of batch shape ``()``, which shares its memory."""
        return cls(evidence.count.item(), evidence.mean.numpy(), evidence.scatter.numpy())

    def evidence(self) -> Evidence:
        """Return it as tensors, which share its memory."""
        count = torch.tensor(
            self.count,
            device="cpu",
            dtype=torch.int64 if isinstance(self.count, int) else torch.float64,
        )
        return Evidence(count, torch.from_numpy(self.mean), torch.from_numpy(self.scatter))

    def observe(self, z: np.ndarray) -> LightEvidence:
        """Return the evidence with one more element ``(D,)``, by Welford's update."""
        count = self.count + 1
        shift = z - self.mean
        mean = self.mean + shift / count
        return LightEvidence(count, mean, self.scatter + shift * (z - mean))


@dataclass(frozen=True)
class LightClasses:
    """Predictive densities of classes, ready for one element.

    Attributes:
        labels: The classes, sorted, ``(K,)``.
        count: How many elements each has, ``(K,)``.
        terms: Arrays ``(K, D)``: factor, offset and power of a Student-t process, of a Gaussian
            only the first two.
        constant: Sums of all that does not depend on the element, ``(K,)``.
    """

    labels: np.ndarray
    count: np.ndarray
    terms: tuple[np.ndarray, ...]
    constant: np.ndarray

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Return log p(z | class) of one latent vector ``(D,)``, ``(K,)``, in nats."""
        factor, offset, *power = self.terms
        squared = np.square(factor * z - offset)
        if not power:
            gaussian: np.ndarray = self.constant - 0.5 * squared.sum(1)
            return gaussian
        student: np.ndarray = self.constant - np.einsum("kd,kd->k", np.log1p(squared), power[0])
        return student

    def with_rows(self, rows: list[int], some: LightClasses) -> LightClasses:
        """Return the classes with others at some rows.

        Args:
            rows: Which.
            some: The others.
        """
        arrays = []
        for mine, its in zip(
            (self.count, *self.terms, self.constant),
            (some.count, *some.terms, some.constant),
            strict=True,
        ):
            array = mine.copy()
            array[rows] = its
            arrays.append(array)
        return LightClasses(self.labels, arrays[0], tuple(arrays[1:-1]), arrays[-1])


@dataclass(frozen=True)
class LightOwnClasses:
    """Predictive densities of classes that may have covariances of their own.

    Attributes:
        shared: The densities by the shared covariance.
        log_odds: Log-odds of a covariance of their own, ``(K,)``.
        mean: Posterior means, ``(K, D)``.
        whitening: Maps to uncorrelated dimensions, ``(K, D, D)``.
        constant: All that does not depend on the element, ``(K,)``.
        power: Of one plus the squared distance, ``(K,)``.
    """

    shared: LightClasses
    log_odds: np.ndarray
    mean: np.ndarray
    whitening: np.ndarray
    constant: np.ndarray
    power: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The classes, sorted, ``(K,)``."""
        return self.shared.labels

    @property
    def count(self) -> np.ndarray:
        """How many elements each has, ``(K,)``."""
        return self.shared.count

    def log_prob(self, z: np.ndarray) -> np.ndarray:
        """Return log p(z | class) of the statistics ``(M,)`` of one element, ``(K,)``, in nats."""
        latent = z[: self.mean.shape[1]]
        distance = np.matmul((latent - self.mean)[:, None], self.whitening)[:, 0]
        own = self.constant - self.power * np.log1p(np.einsum("kd,kd->k", distance, distance))
        of_shared = self.shared.log_prob(latent)
        mixed: np.ndarray = np.logaddexp(
            own - np.logaddexp(0, -self.log_odds), of_shared - np.logaddexp(0, self.log_odds)
        )
        return mixed

    def with_rows(self, rows: list[int], some: LightOwnClasses) -> LightOwnClasses:
        """Return the classes with others at some rows.

        Args:
            rows: Which.
            some: The others.
        """
        arrays = {}
        for name in ("log_odds", "mean", "whitening", "constant", "power"):
            arrays[name] = getattr(self, name).copy()
            arrays[name][rows] = getattr(some, name)
        return LightOwnClasses(self.shared.with_rows(rows, some.shared), **arrays)


class LightModel:
    """A model in numpy.

    Args:
        layers: Its map.
        process: Its process.
        own: The process of classes with covariances of their own, if they may have some.
    """

    def __init__(
        self,
        layers: list[Layer],
        process: ExchangeableGaussian | ExchangeableStudentT,
        own: OwnCovariance | None = None,
    ) -> None:
        self._layers = layers
        self._features = process.dim
        self._own = own
        self.dim = process.dim if own is None else own.dim
        self._pairs = np.triu_indices(process.dim, 1)
        self._loc, self._covariance, self._noise = (
            _array(values) for values in (process.loc, process.covariance, process.noise)
        )
        self._excess = None
        if isinstance(process, ExchangeableStudentT):
            self._excess = np.exp(_array(process.raw_df))

    @classmethod
    def of(cls, model: Bruno, own: OwnCovariance | None = None) -> LightModel | None:
        """Return a model in numpy; None if it has layers or a process that are not known here.

        Args:
            model: The model.
            own: The process of classes with covariances of their own, if they may have some.
        """
        flow, process = model.flow, model.process
        if (
            not isinstance(flow, RealNVP)
            or len(model.event_shape) != 1
            or flow.dtype != torch.float64
            or model.device.type != "cpu"
            or type(process) not in (ExchangeableGaussian, ExchangeableStudentT)
            or not (own is None or own.all_vary)
        ):
            return None
        layers = [_light_layer(layer) for layer in flow.layers]
        known = [layer for layer in layers if layer is not None]
        if len(known) < len(layers):
            return None
        return cls(known, process, own)  # type: ignore[arg-type]

    def latent(self, X: Any) -> np.ndarray | None:  # noqa: N803
        """Return what evidence is gathered of, ``(M,)``, of a table of one row.

        None where it is not an array of one row of numbers that are certainly fine.
        """
        if type(X) is not np.ndarray or X.dtype != np.float64 or X.shape != (1, self._features):
            return None
        z: np.ndarray = X[0]
        if not np.abs(z).max() <= _LARGEST:
            return None
        for layer in self._layers:
            z = layer(z)
        if not np.abs(z).max() <= _LARGEST:
            return None
        if self._own is None:
            return z
        first, second = self._pairs
        return np.concatenate([z, z[first] + z[second]])

    def classes(
        self, labels: np.ndarray, evidence: list[LightEvidence]
    ) -> LightClasses | LightOwnClasses:
        """Return the predictive densities of classes.

        Args:
            labels: Their labels.
            evidence: Their evidence.
        """
        shared = self._shared(labels, evidence)
        if self._own is None:
            return shared
        with torch.no_grad():
            # In torch: only what has changed since the last row is prepared again.
            known = Evidence.stack([one.evidence() for one in evidence])
            return LightOwnClasses(shared, *map(_array, self._own.prepared(known)))

    def _shared(self, labels: np.ndarray, evidence: list[LightEvidence]) -> LightClasses:
        """Return the predictive densities of classes that share a covariance."""
        count = np.array([one.count for one in evidence], dtype=np.float64)
        mean = np.array([one.mean[: self._features] for one in evidence])
        n, shift = count[:, None], mean - self._loc
        total = self._noise + n * self._covariance
        mean = self._loc + n * self._covariance / total * shift
        variance = self._noise * (1 + self._covariance / total)
        if self._excess is None:
            factor = 1 / np.sqrt(variance)
            constant = np.log(factor).sum(1) - 0.5 * self._features * math.log(2 * math.pi)
            return LightClasses(labels, count, (factor, mean * factor), constant)
        scatter = np.array([one.scatter[: self._features] for one in evidence])
        beta = scatter / self._noise + n * shift**2 / total
        excess = self._excess + n
        df = 2 + excess
        # Of the scale times the root of the degrees of freedom.
        squared = variance * (self._excess + beta) / excess * (df - 2)
        factor = 1 / np.sqrt(squared)
        constant = log_gamma_ratio(df / 2, 0.5) + np.log(factor) - 0.5 * math.log(math.pi)
        return LightClasses(labels, count, (factor, mean * factor, 0.5 * (df + 1)), constant.sum(1))


def _array(values: torch.Tensor) -> np.ndarray:
    array: np.ndarray = values.detach().double().cpu().numpy()
    return array


def _light_layer(layer: nn.Module) -> Layer | None:
    """Return a layer as a function of arrays; None if there is none for its kind."""
    arrays = {
        name: _array(values) for name, values in (*layer.named_parameters(), *layer.named_buffers())
    }
    if type(layer) is ActivationNorm:
        shift, scale = arrays["shift"], np.exp(arrays["log_scale"])
        return lambda x: (x + shift) * scale
    if type(layer) is FullAffine:
        shift, matrix = arrays["shift"], arrays["matrix"]
        return lambda x: (x + shift) @ matrix
    if type(layer) is LowRankAffine:
        return _low_rank(arrays)
    if type(layer) is YeoJohnson:
        return _power_maps(arrays)
    return None


def _low_rank(arrays: dict[str, np.ndarray]) -> Layer:
    shift, scale, matrix = (arrays[name] for name in ("shift", "scale", "matrix"))
    reflectors, weighted, rank = arrays["reflectors"], arrays["weighted"], len(matrix)

    def layer(x: np.ndarray) -> np.ndarray:
        x = (x + shift) * scale
        x = x - (x @ reflectors) @ weighted
        return np.concatenate([x[:rank] @ matrix, x[rank:]])

    return layer


def _power_maps(arrays: dict[str, np.ndarray]) -> Layer:
    bent = np.flatnonzero(arrays["power"] != 1)
    centre, unit, given = (arrays[name][bent] for name in ("centre", "unit", "power"))

    def layer(x: np.ndarray) -> np.ndarray:
        u = (x[bent] - centre) / unit
        power = np.where(u >= 0, given, 2 - given)
        log_distance = np.log1p(np.abs(u))
        safe = np.where(power == 0, 1.0, power)
        grown = np.where(power == 0, log_distance, np.expm1(power * log_distance) / safe)
        x = x.copy()
        x[bent] = centre + unit * np.copysign(grown, u)
        return x

    return layer
