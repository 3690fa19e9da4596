"""A dense Real NVP, trained on the classes of a table as sets."""

from __future__ import annotations

import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.estimators.scales import standard_scale
from bruno.flows.affine import ActivationNorm
from bruno.model import Bruno
from bruno.pretrained import build
from bruno.progress import track
from bruno.seeding import generator_for
from bruno.training.objectives import Objective, ObjectiveConfig

_SETS, _SET_SIZE = 32, 8
_LEARNING_RATE, _WEIGHT_DECAY = 1e-3, 1e-2
# Tables hold whole numbers and repeated values, on which a density could grow without bound. Noise
# of this share of the standard deviation keeps it smooth (Rothfuss et al., 2019).
_NOISE = 0.1


@torch.enable_grad()
def fit_dense(
    x: Tensor,
    classes: Tensor,
    process: str,
    *,
    global_scale: bool,
    steps: int,
    seed: int,
    verbose: bool,
) -> Bruno:
    """Return a model with a dense flow, trained on sets of elements of one class.

    Args:
        x: Elements, float64 ``(N, D)``, of at least two dimensions.
        classes: Class of each, int64 ``(N,)``, from 0 to K − 1, none of them empty.
        process: ``gaussian`` or ``student_t``.
        global_scale: Whether all dimensions have one unit, as pixels have, and so the same noise.
        steps: Number of steps of the optimiser.
        seed: Seed of the weights, the sets and the noise.
        verbose: Whether to show progress on standard error.

    Raises:
        UserError: If there is only one dimension.
    """
    if x.shape[1] < 2:
        raise UserError('X: expected at least 2 features with flow="dense", got 1 feature(s)')
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = build({"event_shape": (x.shape[1],), "preset": "dense"}, process)
    model.flow.double()
    generator = generator_for(seed)
    mean, std = standard_scale(x, global_scale=global_scale)
    x = (x - mean) / std

    def noisy(elements: Tensor) -> Tensor:
        return elements + _NOISE * torch.randn(
            elements.shape, generator=generator, dtype=torch.float32, device="cpu"
        ).to(x)

    if len(x) > 1:
        model.flow.initialise(noisy(x))
    rows = [torch.nonzero(classes == k).flatten() for k in range(int(classes.max()) + 1)]
    # The variance of a class cannot be estimated from a single example.
    rows = [members for members in rows if len(members) > 1] or rows
    size = min(_SET_SIZE, min(map(len, rows)))
    discriminative = float(size > 1 and len(rows) > 1)
    objective = Objective(model, ObjectiveConfig(discriminative_weight=discriminative))
    optimiser = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _LEARNING_RATE, total_steps=steps)
    for _ in track(range(steps), "learning the flow") if verbose else range(steps):
        chosen = torch.randperm(len(rows), generator=generator, device="cpu")[:_SETS].tolist()
        members = [
            rows[k][torch.randperm(len(rows[k]), generator=generator, device="cpu")[:size]]
            for k in chosen
        ]
        optimiser.zero_grad()
        objective(noisy(x[torch.stack(members)]), 1).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    _take_units(model, mean, std)
    return model.requires_grad_(False)


@torch.no_grad()
def _take_units(model: Bruno, mean: Tensor, std: Tensor) -> None:
    """Make a model of ``(x - mean) / std`` one of ``x``, through its first norm."""
    norm = next(layer for layer in model.flow.modules() if isinstance(layer, ActivationNorm))
    norm.shift.mul_(std).sub_(mean)
    norm.log_scale.sub_(std.log())
