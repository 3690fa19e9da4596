"""The model of a service: elements in, latent vectors, densities and new elements out."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from bruno.data.scans import scan_options_for
from bruno.data.sets import quantise
from bruno.device import resolve_device
from bruno.errors import UserError, renamed_argument
from bruno.estimators.calibration import with_rejection
from bruno.estimators.class_prior import log_prior
from bruno.estimators.own_covariance import OwnCovariance
from bruno.evidence import Evidence
from bruno.flows.frozen import freeze_weights
from bruno.model import Bruno
from bruno.pixels import in_bins
from bruno.pretrained import locate, read_config
from bruno.scan_classification import TypicalDensity, typical_density
from bruno.serving.calibration import Calibration, calibration_of
from bruno.serving.coder import Coder, traced
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


@dataclass(frozen=True, eq=False)
class Encoded:
    """Elements as a model sees them.

    Attributes:
        codes: Their codes, float64 ``(N, dim)``.
        log_prob: log p(x) of each, in nats, ``(N,)``, where it was asked for.
    """

    codes: Tensor
    log_prob: Tensor | None


class ServedModel:
    """A model and what is known of it.

    Classes are compared, learned and forgotten by codes: the leading latent dimensions that a set
    informs. All others are independent of every set, and cancel in comparisons. With covariances
    of their own, codes are the statistics that hold them, at most 2080 numbers
    (:meth:`~bruno.estimators.own_covariance.OwnCovariance.statistics`).

    Args:
        model: The model, without context.
        located: Where it is, and its card.
        name: What projects call it.
        calibration: How log-densities become probabilities of classes.
        max_pixels: Largest number of pixels of a picture.
        given: Classes that a new store begins with.
        covariance_prior: Prior of the covariances of classes, where they have their own.
    """

    def __init__(
        self,
        model: Bruno,
        located: LocatedModel,
        name: str,
        calibration: Calibration,
        max_pixels: int,
        given: tuple[GivenClass, ...] = (),
        covariance_prior: tuple[float, ...] | None = None,
    ) -> None:
        self._model = model.requires_grad_(False)
        self.sha256 = str(located.config["weights_sha256"])
        self._own: OwnCovariance | None = None
        informed = informed_dim(model)
        if covariance_prior is not None:
            informed = model.process.dim
            self._own = OwnCovariance(model.process, *covariance_prior)
            # Another prior is another model: its densities of the same classes are others.
            prior = f"{self.sha256} {covariance_prior}"
            self.sha256 = hashlib.sha256(prior.encode()).hexdigest()
        self.dim = informed if self._own is None else self._own.dim
        self._process = self._own or model.process.first(informed)
        is_exact = model.flow.dtype == torch.float64
        self._exact_model = model if is_exact else copy.deepcopy(model).double()
        for each in {self._model, self._exact_model}:
            freeze_weights(each.flow)
        self._exact_latent = Coder(self._exact_model.flow, informed)
        self._latent = traced(Coder(self._model.flow, informed), self._example)
        self.name = name
        self.calibration = calibration
        self.given = given
        self.typical: TypicalDensity | None = typical_density(located.card)
        options = scan_options_for(located.dataset_name)
        self.format = ElementFormat(model.event_shape, options, max_pixels)
        self.refusal_to_draw: str | None = None
        try:
            located.check_draws()
        except UserError as error:
            self.refusal_to_draw = str(error).partition(": ")[2].partition(";")[0]

    @torch.no_grad()
    def encode(self, elements: Tensor, *, with_densities: bool = False) -> Encoded:
        """Return codes of elements in one pass, and log p(x) if it is asked for.

        Args:
            elements: ``(N, *event)``, images as grey levels.
            with_densities: Whether to compute log p(x), which takes several times as long where
                sets inform few of the latent dimensions.
        """
        if not with_densities:
            latent = self._latent(self._input(self._model, elements))
            return Encoded(self._codes_of(latent).cpu(), None)
        z, log_det = self._model.flow(self._input(self._model, elements))
        process = self._own or self._model.process
        log_prob = process.log_prob(z.unsqueeze(1)) + log_det.double()
        return Encoded(self._codes_of(z.double()).cpu(), log_prob.cpu())

    @torch.no_grad()
    def encode_repeatably(self, elements: Tensor) -> Encoded:
        """Return codes that are the same bits whatever else is encoded.

        One after the other and in double precision, for projects that keep no examples.

        Args:
            elements: ``(N, *event)``, images as grey levels.
        """
        x = self._input(self._exact_model, elements)
        codes = [self._codes_of(self._exact_latent(one)).cpu() for one in x.split(1)]
        return Encoded(torch.cat(codes), None)

    @torch.no_grad()
    def decode(self, z: Tensor) -> Tensor:
        """Return new elements of latent vectors ``(N, D)``: images as uint8, vectors as float64."""
        x = self._model.decode(z.to(self._model.device))
        return quantise(x.cpu()) if self.format.is_image else x.double().cpu()

    @torch.no_grad()
    def class_probabilities(
        self, codes: Tensor, evidence: Evidence, unknown_prior: float
    ) -> tuple[Tensor, Tensor]:
        """Return probabilities of classes, and how much more probable each makes an element.

        Args:
            codes: Codes, ``(N, dim)``.
            evidence: Of the classes, batch shape ``(K,)``.
            unknown_prior: Prior probability of none of the classes.

        Returns:
            Probabilities ``(N, K + 1)``, the last of none of the classes, and
            log p(x | class) - log p(x) in nats, ``(N, K)``.
        """
        codes = codes.to(self._model.device)
        prior = self._process.log_prob(codes.unsqueeze(1)).cpu()
        if len(evidence.count) == 0:
            options: Any = {"device": "cpu", "dtype": torch.float64}
            return torch.ones(len(codes), 1, **options), torch.zeros(len(codes), 0, **options)
        given = self._process.log_prob_given(codes, self._here(evidence)).cpu()
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
        return log_p.exp(), given - prior.unsqueeze(1)

    @torch.no_grad()
    def log_ratio(self, codes: Tensor, evidence: Evidence) -> Tensor:
        """Return log p(x | a set) - log p(x), in nats, ``(N,)``.

        Args:
            codes: Codes, ``(N, dim)``.
            evidence: Of the set, batch shape ``()``.
        """
        codes = codes.to(self._model.device)
        given = self._process.log_prob_given(codes, self._here(evidence).expand((1,)))[:, 0]
        ratio: Tensor = given - self._process.log_prob(codes.unsqueeze(1))
        return ratio.cpu()

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
        process = self._own or self._model.process
        rest = process.dim - self.dim  # dimensions that no evidence informs
        mean, scatter = (pad(part, (0, rest)) for part in (evidence.mean, evidence.scatter))
        whole = self._here(Evidence(evidence.count, mean, scatter))
        drawn = process.sample(whole, (count,), generator, latent_scale)
        return drawn.cpu()

    def no_evidence(self) -> Evidence:
        """Return the evidence of no elements."""
        return Evidence.empty(self.dim)

    def fixed_points(self, codes: Tensor) -> Integers:
        """Return codes ``(N, dim)`` as whole numbers, as they are learned."""
        vectors: NDArray[np.float64] = codes.cpu().double().numpy()
        return fixed_point(vectors)

    def _codes_of(self, latent: Tensor) -> Tensor:
        """Return the codes of latent vectors, of which the leading dimensions count."""
        return latent[:, : self.dim] if self._own is None else self._own.statistics(latent)

    def _here(self, evidence: Evidence) -> Evidence:
        parts = (evidence.count, evidence.mean, evidence.scatter)
        return Evidence(*(part.to(self._model.device) for part in parts))

    def _example(self, number: int) -> Tensor:
        """Return arbitrary elements, as the flow takes them."""
        options: Any = {"device": "cpu", "generator": torch.Generator("cpu").manual_seed(0)}
        shape = (number, *self._model.event_shape)
        if len(shape) == 4:
            elements = torch.randint(0, 256, shape, dtype=torch.uint8, **options)
        else:
            elements = torch.randn(shape, dtype=torch.float64, **options)
        return self._input(self._model, elements)

    @staticmethod
    def _input(model: Bruno, elements: Tensor) -> Tensor:
        # For the flow, and not the model, which would judge the pixels of all requests together.
        x = in_bins(elements) if len(model.event_shape) == 3 else elements
        return x.to(device=model.device, dtype=model.flow.dtype)


def informed_dim(model: Bruno) -> int:
    """Return the number of leading latent dimensions that a set informs."""
    code_dim, informed = model.flow.code_dim, model.process.is_informed
    return model.process.dim if bool(informed[code_dim:].any()) else code_dim


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
    covariance_prior: tuple[float, ...] | None = None
    if settings.classifier is None:
        model, name = located.load(), path.name
        calibration = calibration_of(str(located.config["weights_sha256"]))
    else:
        # scikit-learn takes a second to import, and other models do without.
        from bruno.estimators.classifier import BrunoClassifier

        with renamed_argument("path", argument):
            classifier = BrunoClassifier.load(path)
        model, name = classifier.model_, "classifier"
        calibration = Calibration(
            classifier.temperature_,
            classifier.unknown_slope_,
            classifier.unknown_intercept_,
            classifier.label_noise_,
        )
        known, covariance_prior = classifier._known.now().evidence, classifier.covariance_prior_
        dim = informed_dim(model) if covariance_prior is None else known.dim
        codes = Evidence(known.count, known.mean[:, :dim], known.scatter[:, :dim])
        given = tuple(
            GivenClass(str(label), ExactEvidence.rounded(codes[row]))
            for row, label in enumerate(classifier.classes_.tolist())
        )
    if model.flow.context_dim:
        raise UserError(f"{argument}: expected a model without context, got a conditional one")
    if len(model.event_shape) == 3 and model.event_shape[1] != model.event_shape[2]:
        raise UserError(f"{argument}: expected a model of square images, got {model.event_shape}")
    return ServedModel(
        model.to(device),
        located,
        name,
        calibration,
        settings.max_pixels * 10**6,
        given,
        covariance_prior,
    )
