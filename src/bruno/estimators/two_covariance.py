r"""The two-covariance model: one covariance between classes, another within classes.

Elements are :math:`x = \mu + y_c + \varepsilon` with :math:`y_c \sim N(0, B)` for every class and
:math:`\varepsilon \sim N(0, W)` for every element (Ioffe, *Probabilistic Linear Discriminant
Analysis*, ECCV 2006; Brümmer & de Villiers, *The Speaker Partitioning Problem*, Odyssey 2010). One
linear map makes :math:`W` the identity and :math:`B` diagonal, which leaves an exchangeable process
in every dimension, with :math:`\rho = B_{dd}` and :math:`v = 1 + B_{dd}`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bruno.estimators.encoding import FittedModel
from bruno.estimators.marginal_likelihood import EXCESS, maximise_marginal_likelihood
from bruno.estimators.two_covariance_flow import FittedFlow
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.processes import PROCESSES, ExchangeableProcess

# Mean square, in units of the variance within classes, below which a direction has no scatter but
# rounding errors; and the degrees of freedom, beyond 2, of a Student-t process that is a Gaussian.
_NO_SCATTER, _GAUSSIAN_EXCESS = 1e-9, 1e12


def fit_process(flow: FittedFlow, process: str) -> FittedModel:
    """Return the maximum a posteriori two-covariance model of a few examples of some classes.

    Variance, covariance and degrees of freedom of every latent dimension maximise the marginal
    likelihood of the classes times the prior (empirical Bayes).

    Args:
        flow: The flow, fitted to the examples.
        process: ``gaussian`` or ``student_t``.
    """
    start = {"variance": flow.within + flow.between, "covariance": flow.between}
    if process == "student_t":
        start["df"] = torch.full_like(flow.between, 2 + EXCESS)
    fitted = _fitted_process(PROCESSES[process], start, flow)
    return FittedModel(Bruno(flow.flow, fitted).requires_grad_(False), flow.latent)


def _fitted_process(
    kind: type[ExchangeableProcess],
    start: dict[str, Tensor],
    flow: FittedFlow,
) -> ExchangeableProcess:
    """Return a process of maximum a posteriori parameters, without evidence where nothing varies.

    A direction in which no element of any class scatters, as there are with collinear columns or
    few elements, does not show how much classes differ in variance: there a Student-t process
    would predict the smaller a variance, the more elements a class has, and so find the largest
    class the most probable for everything. Its degrees of freedom are infinite there. (Where no
    class has two elements, none could scatter, and nothing is known about variances.) Where there
    are enough elements for their dimension and yet none differ in a direction, it is redundant, and
    the covariance between elements is 0, too: all classes predict the same.

    Args:
        kind: The process.
        start: Its parameters at the prior values, ``(D,)`` each.
        flow: The flow before it.
    """
    evidence, number, strength = flow.evidence, flow.number, flow.strength
    dim = evidence.dim
    still = evidence.scatter.sum(0) <= _NO_SCATTER * number
    could_scatter = (evidence.counts > 1).any(0)
    mean = (evidence.counts * evidence.mean).sum(0) / number.clamp_min(
        torch.finfo(number.dtype).tiny
    )
    between = (evidence.counts * (evidence.mean - mean).square()).sum(0)
    total = evidence.scatter.sum(0) + between
    redundant = still & (total <= _NO_SCATTER * number) & ((number > dim) | (number == 0))
    if "df" in start:
        start["df"] = torch.where(still & could_scatter, 2 + _GAUSSIAN_EXCESS, start["df"])
    varies = torch.nonzero(~redundant).flatten()
    if len(varies) == dim:
        process = kind.from_parameters(**start)
        maximise_marginal_likelihood(process, evidence, strength)
        return process
    # The maximum in a direction where all residuals are 0 and elements are independent.
    start["variance"] = torch.where(redundant, strength / (strength + number), start["variance"])
    start["covariance"] = torch.where(redundant, 0.0, start["covariance"])
    if len(varies):
        part = kind.from_parameters(**{name: value[varies] for name, value in start.items()})
        count = evidence.count[:, varies] if evidence.counts_differ else evidence.count
        seen = Evidence(count, evidence.mean[:, varies], evidence.scatter[:, varies])
        maximise_marginal_likelihood(part, seen, strength)
        for name in start:
            start[name] = start[name].index_copy(0, varies, getattr(part, name).detach())
    return kind.from_parameters(**start)
