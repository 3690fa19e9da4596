r"""One set of several modes: parts that are exchangeable sets themselves.

The parts are found once, in ``fit``, and then a fixed rule says which part an element belongs to:
the one that was most probable for it then. So every part keeps evidence of its own that grows,
merges and forgets exactly, whatever the order, and the next element has the density

.. math:: p(x \mid \text{set}) = \sum_m \frac{n_m + 1}{n + M} \, p(x \mid \text{part } m),

the predictive of Dirichlet-distributed shares and of the parts
(:class:`~bruno.estimators.own_covariance.OwnCovariance`). Their number maximises the joint density
of the elements and their parts, the integrated completed likelihood (Biernacki, Celeux & Govaert,
*Assessing a Mixture Model for Clustering with the Integrated Completed Likelihood*, IEEE PAMI
2000), which here is exact; parts are split one after the other, along a principal axis, and
elements then move to the part where they are most probable (Celeux & Govaert, *A Classification EM
Algorithm*, 1992).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bruno.estimators.own_covariance import OwnCovariance
from bruno.estimators.selection import spread
from bruno.estimators.weights import evidence_of, evidence_of_one
from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess

MOST_MODES = 8
"""Of one set."""

# More rows do not change the parts that matter, and take time.
_MOST_ROWS = 1000
# Prior of covariances and means, while parts are sought.
_EXCESS, _MEAN_STRENGTH, _SCALE = 4.0, 0.1, 1.0
# Candidates for the variance of parts, in units of that of the whole set.
_SCALES = (1.0, 0.5, 0.25, 0.1, 0.05, 0.02, 0.01, 0.001)
# A further part must be worth so many nats, in all and for each element.
_LEAST_GAIN, _LEAST_GAIN_EACH = 3.0, 0.01
# Principal axes of a part along which it is split, and splits in vain before the search ends.
_AXES, _PATIENCE = 2, 2
# Rounds of moving elements, of every split that is tried, and of the best one.
_FEW_ROUNDS, _ROUNDS = 2, 20
# A part has more elements than dimensions, and at least so many: a few outliers are none.
_FEWEST_ELEMENTS = 5.0


@dataclass(frozen=True)
class Modes:
    """The parts of a set, as they were found.

    Attributes:
        process: The process of the elements of a part.
        found: Evidence of the parts when they were found, ``(M,)``, of
            :meth:`OwnCovariance.statistics`; it decides where elements belong.
    """

    process: OwnCovariance
    found: Evidence

    @property
    def number(self) -> int:
        """How many parts there are."""
        return len(self.found.mean)

    def evidence_of(self, z: Tensor, weight: Tensor | None = None) -> Evidence:
        """Return the evidence of elements by part, ``(M,)``.

        Args:
            z: Latent vectors of the elements, ``(N, D)``.
            weight: How often each counts, ``(N,)``; by default once.
        """
        return evidence_of(z, self.parts_of(z), weight, self.process, self.number)

    def parts_of(self, z: Tensor) -> Tensor:
        """Return the part that each element belongs to, int64 ``(N,)``.

        Args:
            z: Latent vectors of the elements, ``(N, D)``.
        """
        return _scores(self.process, z, self.found).argmax(1)

    def log_prob(self, z: Tensor, evidence: Evidence) -> Tensor:
        """Return log p(x | set) of elements, in nats, ``(N,)``.

        Args:
            z: Latent vectors of the elements, ``(N, D)``.
            evidence: Evidence of the set by part, ``(M,)``.
        """
        return _scores(self.process, z, evidence).logsumexp(1)

    def sample(self, evidence: Evidence, number: int, generator: torch.Generator) -> Tensor:
        """Return new latent vectors of the set, ``(number, D)``.

        Args:
            evidence: Evidence of the set by part, ``(M,)``.
            number: How many.
            generator: Source of randomness.
        """
        shares = _log_share(evidence.count).exp()
        part = torch.multinomial(shares.cpu(), number, replacement=True, generator=generator)
        drawn = torch.stack(
            [self.process.sample(evidence[m], (number,), generator) for m in range(self.number)]
        )
        return drawn[part.to(drawn.device), torch.arange(number, device=drawn.device)]


def log_share_without(count: Tensor, parts: Tensor, held: Tensor | None) -> Tensor:
    """Return the logarithms of the shares of parts without elements of them, ``(N, M)``.

    Args:
        count: How many elements parts have, ``(M,)``.
        parts: The part of each element, ``(N,)``.
        held: How often each is left out, ``(N,)``; by default once.
    """
    once = torch.ones(len(parts), dtype=torch.float64, device=count.device)
    once = (once if held is None else held).unsqueeze(1)
    own = torch.nn.functional.one_hot(parts, len(count)).double()
    left = count.double() - once * own
    return ((left + 1) / (count.sum() - once + len(count))).log()


def find_modes(
    shared: ExchangeableProcess,
    z: Tensor,
    x: Tensor,
    weight: Tensor | None,
    number: int | None,
) -> Modes | None:
    """Return the parts of a set; None if it has only one.

    The order of the elements has no influence.

    Args:
        shared: The process of the set as one.
        z: Latent vectors, float64 ``(N, D)``.
        x: The elements themselves, ``(N, D)``, which tell along which axes to split.
        weight: How often each counts, ``(N,)``; by default once.
        number: How many parts; by default as many as make the set more probable.
    """
    process = OwnCovariance(shared, _EXCESS, _MEAN_STRENGTH, _SCALE)
    if not process.any_vary:
        return None
    of_all = evidence_of_one(x, weight)
    std = (of_all.scatter / of_all.counts).sqrt()
    y = (x - of_all.mean) / torch.where(std > 0, std, 1.0)
    some = spread(y, torch.zeros(len(y), dtype=torch.int64, device=y.device), _MOST_ROWS)
    some = some[y[some].sum(1).argsort(stable=True)]
    each = None if weight is None else weight[some]
    labels = _split_up(process, z[some], y[some], each, number)
    parts = int(labels.max()) + 1
    if parts == 1:
        return None
    known = evidence_of(z[some], labels, each, process)
    process = OwnCovariance.fitted(shared, known, _SCALES)
    return Modes(process, Modes(process, known).evidence_of(z, weight))


def _split_up(
    process: OwnCovariance, z: Tensor, y: Tensor, weight: Tensor | None, number: int | None
) -> Tensor:
    """Return the part of every element, ``(N,)``, from 0 to M − 1."""
    labels = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    each = torch.ones_like(z[:, 0]) if weight is None else weight
    best, highest = labels, _completed(process, z, labels, weight)
    least, in_vain = _LEAST_GAIN + _LEAST_GAIN_EACH * float(each.sum()), 0
    for _ in range((number or MOST_MODES) - 1):
        trials = [
            _refined(process, z, trial, weight, _FEW_ROUNDS) for trial in _splits(y, labels, each)
        ]
        trials = [trial for trial in trials if int(trial.max()) > int(labels.max())]
        if not trials:
            break
        labels = max(trials, key=lambda trial: _completed(process, z, trial, weight))
        labels = _refined(process, z, labels, weight, _ROUNDS)
        highest_now = _completed(process, z, labels, weight)
        if number is not None or highest_now > highest + least:
            best, highest, in_vain = labels, highest_now, 0
        elif (in_vain := in_vain + 1) == _PATIENCE:
            break
    return best


def _splits(y: Tensor, labels: Tensor, weight: Tensor) -> Iterator[Tensor]:
    """Yield labels in which one part is divided into two, in all ways that are tried."""
    new = int(labels.max()) + 1
    for part in range(new):
        rows = torch.nonzero(labels == part).flatten()
        mass = weight[rows]
        if float(mass.sum()) < 2 * _FEWEST_ELEMENTS:
            continue
        centred = y[rows] - (mass @ y[rows]) / mass.sum()
        _, axes = torch.linalg.eigh(centred.T @ (mass.unsqueeze(1) * centred))
        for axis in axes.flip(1)[:, :_AXES].T:
            along = centred @ axis
            above = along > _best_cut(along, mass)
            trial = labels.clone()
            trial[rows[above]] = new
            yield trial


def _best_cut(values: Tensor, weight: Tensor) -> float:
    """Return where to cut numbers in two, such that these vary least."""
    ordered, order = values.sort()
    mass = weight[order].cumsum(0)
    total = (weight[order] * ordered).cumsum(0)
    below, rest = mass[:-1], mass[-1] - mass[:-1]
    # The larger the squared distance of the two means, weighted, the less is left within.
    between = below * rest * (total[:-1] / below - (total[-1] - total[:-1]) / rest).square()
    return float(ordered[:-1][between.argmax()])


def _refined(
    process: OwnCovariance, z: Tensor, labels: Tensor, weight: Tensor | None, rounds: int
) -> Tensor:
    """Return labels after elements have moved to where they are most probable.

    Parts that become too small are dissolved.
    """
    each = torch.ones_like(z[:, 0]) if weight is None else weight
    fewest = max(_FEWEST_ELEMENTS, process.shared.dim + 1.0)
    for _ in range(rounds):
        known = evidence_of(z, labels, weight, process)
        scores = _scores(process, z, known)
        moved = scores.argmax(1)
        for part in torch.bincount(moved, each, minlength=len(known.mean)).argsort().tolist()[:-1]:
            if float(each[moved == part].sum()) < fewest:
                scores[:, part] = -torch.inf
                moved = scores.argmax(1)
        moved = torch.unique(moved, return_inverse=True)[1]
        if torch.equal(moved, labels):
            break
        labels = moved
    return labels


def _completed(process: OwnCovariance, z: Tensor, labels: Tensor, weight: Tensor | None) -> float:
    """Return the joint log-density of elements and their parts, in nats."""
    known = evidence_of(z, labels, weight, process)
    count = known.count.double()
    parts = torch.tensor(float(len(count)), dtype=torch.float64, device="cpu")
    shares = torch.lgamma(parts) - torch.lgamma(parts + count.sum().cpu())
    return float(torch.lgamma(count + 1).sum().cpu() + shares + process.log_prob_of(known).sum())


def _scores(process: OwnCovariance, z: Tensor, evidence: Evidence) -> Tensor:
    """Return log p(x, part | evidence), ``(N, M)``."""
    return process.log_prob_given(z, evidence) + _log_share(evidence.count)


def _log_share(count: Tensor) -> Tensor:
    return ((count.double() + 1) / (count.sum() + len(count))).log()
