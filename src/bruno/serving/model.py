"""The model of a service: elements in, latent vectors, densities and new elements out."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bruno import BrunoClassifier
from bruno.data.scans import scan_options_for
from bruno.data.sets import quantise
from bruno.device import resolve_device
from bruno.errors import UserError, renamed_argument
from bruno.estimators.calibration import with_rejection
from bruno.estimators.class_prior import log_prior
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.pixels import in_bins
from bruno.pretrained import locate, read_config
from bruno.scan_classification import TypicalDensity, typical_density
from bruno.serving.calibration import Calibration, calibration_of
from bruno.serving.elements import ElementFormat
from bruno.serving.exact_evidence import ExactEvidence, Integers, fixed_point
from bruno.serving.settings import ServerSettings
from bruno.training.locate import LocatedModel


@dataclass(frozen=True, eq=False)
class GivenClass:
    """A class of a saved classifier, whose examples are not known one by one.

    Attributes:
        name: Its name.
        evidence: Its evidence.
    """

    name: str
    evidence: ExactEvidence


class ServedModel:
    """A model and what is known of it.

    Args:
        model: The model, without context.
        located: Where it is, and its card.
        name: What projects call it.
        calibration: How log-densities become probabilities of classes.
        max_pixels: Largest number of pixels of a picture.
        given: Classes that a new store begins with.
    """

    def __init__(
        self,
        model: Bruno,
        located: LocatedModel,
        name: str,
        calibration: Calibration,
        max_pixels: int,
        given: tuple[GivenClass, ...] = (),
    ) -> None:
        self._model = model.requires_grad_(False)
        is_exact = model.flow.dtype == torch.float64
        self._exact_model = model if is_exact else copy.deepcopy(model).double()
        self.name = name
        self.sha256 = str(located.config["weights_sha256"])
        self.calibration = calibration
        self.given = given
        self.typical: TypicalDensity | None = typical_density(located.card)
        options = scan_options_for(located.dataset_name)
        self.format = ElementFormat(model.event_shape, options, max_pixels)
        self.dim = model.process.dim
        self.refusal_to_draw: str | None = None
        try:
            located.check_draws()
        except UserError as error:
            self.refusal_to_draw = str(error).partition(": ")[2].partition(";")[0]

    @torch.no_grad()
    def encode(self, elements: Tensor) -> tuple[Tensor, Tensor]:
        """Return latent vectors ``(N, D)`` and log-determinants ``(N,)``, float64, in one pass.

        Args:
            elements: ``(N, *event)``, images as grey levels.
        """
        return self._encoded(self._model, elements)

    @torch.no_grad()
    def encode_repeatably(self, elements: Tensor) -> Tensor:
        """Return latent vectors ``(N, D)`` that are the same bits whatever else is encoded.

        One after the other and in double precision, for projects that keep no examples.

        Args:
            elements: ``(N, *event)``, images as grey levels.
        """
        return torch.cat([self._encoded(self._exact_model, one)[0] for one in elements.split(1)])

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return new elements of latent vectors ``(N, D)``: images as uint8, vectors as float64."""
        x = self._model.decode(z.to(self._model.device))
        return quantise(x.cpu()) if self.format.is_image else x.double().cpu()

    @torch.no_grad()
    def class_probabilities(
        self, z: Tensor, evidence: Evidence, unknown_prior: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return probabilities of classes and log-densities of latent vectors.

        Args:
            z: Latent vectors, ``(N, D)``.
            evidence: Of the classes, batch shape ``(K,)``.
            unknown_prior: Prior probability of none of the classes.

        Returns:
            Probabilities ``(N, K + 1)``, the last of none of the classes; log p(z | class)
            ``(N, K)`` and log p(z) ``(N,)``, in nats, without log-determinants.
        """
        z = z.to(self._model.device)
        prior = self._model.process.log_prob(z.unsqueeze(1)).cpu()
        count = len(evidence.count)
        if count == 0:
            return (
                torch.ones(len(z), 1, device="cpu", dtype=torch.float64),
                torch.zeros(len(z), 0, device="cpu", dtype=torch.float64),
                prior,
            )
        given = self._model.process.log_prob_given(z, self._here(evidence)).cpu()
        by = self.calibration
        shares = torch.from_numpy(log_prior("uniform", evidence.count.numpy()))
        log_p = with_rejection(
            given / by.temperature + shares,
            prior / by.temperature,
            by.slope,
            by.intercept,
            unknown_prior,
            shares,
            by.label_noise,
        )
        return log_p.exp(), given, prior

    @torch.no_grad()
    def log_prob_given(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log p(z | a set), in nats, ``(N,)``, without log-determinants.

        Args:
            z: Latent vectors, ``(N, D)``.
            evidence: Of the set, batch shape ``()``.
        """
        predictive = self._model.process.predictive(self._here(evidence))
        log_p: Tensor = predictive.log_prob(z.to(self._model.device))
        return log_p.cpu()

    @torch.no_grad()
    def draw(self, evidence: Evidence, count: int, latent_scale: float, seed: int) -> Tensor:
        """Return latent vectors of new elements, ``(count, D)``.

        Args:
            evidence: Of the set they are drawn given, batch shape ``()``.
            count: How many.
            latent_scale: 1 for exact samples, less for more typical ones.
            seed: Seed.
        """
        generator = torch.Generator("cpu").manual_seed(seed)
        drawn = self._model.process.sample(self._here(evidence), (count,), generator, latent_scale)
        return drawn.cpu()

    def no_evidence(self) -> Evidence:
        """Return the evidence of no elements."""
        return Evidence.empty(self.dim)

    def fixed_points(self, z: Tensor) -> Integers:
        """Return latent vectors ``(N, D)`` as whole numbers, as they are learned."""
        vectors: NDArray[np.float64] = z.cpu().double().numpy()
        return fixed_point(vectors)

    def _here(self, evidence: Evidence) -> Evidence:
        parts = (evidence.count, evidence.mean, evidence.scatter)
        return Evidence(*(part.to(self._model.device) for part in parts))

    @staticmethod
    def _encoded(model: Bruno, elements: Tensor) -> tuple[Tensor, Tensor]:
        x = in_bins(elements) if len(model.event_shape) == 3 else elements
        # Not the model, which would judge the pixels of all requests together.
        z, log_det = model.flow(x.to(device=model.device, dtype=model.flow.dtype))
        return z.double().cpu(), log_det.double().cpu()


def load_model(settings: ServerSettings) -> ServedModel:
    """Return the model, or the one of a saved classifier, that settings name.

    Raises:
        UserError: If there is none, or it is of a kind that cannot be served.
    """
    device = resolve_device(settings.device)
    argument = "model" if settings.classifier is None else "classifier"
    with renamed_argument("name_or_path", argument):
        path = locate(settings.classifier or settings.model)
    located = LocatedModel(path, read_config(path), Path())
    given: tuple[GivenClass, ...] = ()
    if settings.classifier is None:
        model, name = located.load(), path.name
        calibration = calibration_of(str(located.config["weights_sha256"]))
    else:
        with renamed_argument("path", argument):
            classifier = BrunoClassifier.load(path)
        model, name = classifier.model_, "classifier"
        calibration = Calibration(
            classifier.temperature_,
            classifier.unknown_slope_,
            classifier.unknown_intercept_,
            classifier.label_noise_,
        )
        known: Any = classifier.evidence_
        given = tuple(
            GivenClass(str(label), ExactEvidence.rounded(known[row]))
            for row, label in enumerate(classifier.classes_.tolist())
        )
    if model.flow.context_dim:
        raise UserError(f"{argument}: expected a model without context, got a conditional one")
    if len(model.event_shape) == 3 and model.event_shape[1] != model.event_shape[2]:
        raise UserError(f"{argument}: expected a model of square images, got {model.event_shape}")
    return ServedModel(
        model.to(device), located, name, calibration, settings.max_pixels * 10**6, given
    )
