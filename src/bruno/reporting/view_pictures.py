"""Pictures of conditional models: objects seen once, from other sides, and turning."""

from __future__ import annotations

import io

import torch
from matplotlib.axes import Axes
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.data.sets import dequantise, quantise
from bruno.evaluation.pose_estimation import degrees, objects_with_unique_pose, scores_by_context
from bruno.evaluation.streams import Stream
from bruno.evaluation.views import by_object, condition
from bruno.model import Bruno
from bruno.reporting import plots
from bruno.reporting.mosaic import enlarged
from bruno.seeding import generator_for

_SHOWN_OBJECTS, _SHOWN_SIDES, _CURVES = 4, 12, 20
_MEAN_OF = 64
_FRAME_MILLISECONDS, _FRAME_SCALE = 100, 6


@torch.no_grad()
def draw_views(model: Bruno, dataset: LabelledImages, seed: int) -> dict[str, bytes]:
    """Return pictures of the predictions of a few objects, by name.

    ``views.png``: objects seen once, from other sides; ``prior.png``: objects of the prior, from
    those sides; ``likelihood.png``: how likely views are under every angle; ``turntable.gif``:
    objects seen once, turning.

    Args:
        model: A conditional model of one angle.
        dataset: Objects it was not trained on.
        seed: Seed of objects, views and samples.
    """
    generator = generator_for(seed, Stream.VIEW_PICTURES)
    views, context = by_object(dataset)
    device = model.device
    order = torch.randperm(len(views), generator=generator, device="cpu")
    shown = order[:_SHOWN_OBJECTS]
    sides = torch.arange(_SHOWN_SIDES, device="cpu") * views.shape[1] // _SHOWN_SIDES
    seen = torch.randint(views.shape[1], (len(shown),), generator=generator, device="cpu")
    observed = views[shown, seen]
    predictive = model.condition(
        dequantise(observed, generator).unsqueeze(1).to(device),
        context[shown, seen].unsqueeze(1).to(device),
    )

    def turned(which: Tensor) -> tuple[Tensor, Tensor]:
        """Return a sample and the mean of some from each side, ``(objects, sides, C, H, W)``."""
        wanted = context[shown][:, which].transpose(0, 1).to(device)
        drawn = predictive.sample((_MEAN_OF, len(which)), wanted, generator).transpose(1, 2).cpu()
        return quantise(drawn[0]), quantise(drawn.mean(0))

    truth = views[shown][:, sides]
    samples = dict(zip(("sample", "mean"), turned(sides), strict=True))
    pictures = {
        "views.png": plots.to_png(plots.plot_novel_views(observed, truth, samples)),
        "prior.png": plots.to_png(
            plots.image_grid(_made_up(model, context[shown][:, sides], generator))
        ),
    }
    unique = set(objects_with_unique_pose(dataset))
    chosen = [index for index in order.tolist() if index in unique][:_CURVES]
    if chosen:
        likelihood = _likelihood(model, views[chosen], context[chosen], generator)
        pictures["likelihood.png"] = plots.to_png(likelihood)
    sample, mean = turned(torch.arange(views.shape[1], device="cpu"))
    frames = torch.cat([views[shown], mean, sample], -2)
    pictures["turntable.gif"] = _animation(torch.cat(list(frames), -1))
    return pictures


def _made_up(model: Bruno, context: Tensor, generator: torch.Generator) -> Tensor:
    """Return views of objects of the prior, uint8 ``(objects, sides, C, H, W)``.

    A view of each is drawn, and the others given those before: exact samples of a whole set.
    """
    objects, sides = context.shape[:2]
    predictive = condition(model, context.new_empty(objects, 0, *model.event_shape), None)
    views = []
    for side in range(sides):
        side_context = context[:, side].to(model.device)
        views.append(predictive.sample(1, side_context.unsqueeze(0), generator)[0])
        predictive = predictive.observe(views[-1], side_context)
    return quantise(torch.stack(views, 1).cpu())


def _likelihood(model: Bruno, views: Tensor, context: Tensor, generator: torch.Generator) -> Axes:
    """Draw log p(view | seen, angle) over angles, for views of objects seen four times before."""
    angles = degrees(context)
    device = model.device
    curves, true = [], []
    for pictures, sides, angle in zip(views, context, angles, strict=True):
        query, *seen = torch.randperm(len(pictures), generator=generator, device="cpu")[:5].tolist()
        noisy = dequantise(pictures, generator)
        predictive = model.condition(noisy[seen].to(device), sides[seen].to(device))
        curves.append(scores_by_context(predictive, noisy[query], sides))
        true.append(angle[query])
    return plots.plot_angle_likelihood(angles, torch.stack(curves), torch.stack(true))


def _animation(frames: Tensor) -> bytes:
    """Return an endless GIF of uint8 frames ``(V, C, H, W)``, enlarged without smoothing."""
    images = [
        enlarged(frame.expand(3, -1, -1).permute(1, 2, 0).contiguous().numpy(), _FRAME_SCALE)
        for frame in frames
    ]
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=_FRAME_MILLISECONDS,
        loop=0,
    )
    return buffer.getvalue()
