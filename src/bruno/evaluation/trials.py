"""Which images face each other in a trial of few-shot classification."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bruno.data.dataset import LabelledImages
from bruno.errors import UserError
from bruno.seeding import uniform
from bruno.validation import check_whole


@dataclass(frozen=True, eq=False)
class Trial:
    """One decision for every rotated class; images are rows of ``rotations * N`` encodings.

    Image ``i`` of the data set in rotation ``r`` is row ``r * N + i``.

    Attributes:
        query: Row of the query of every decision, int64 ``(Q,)``.
        support: Rows of the support images, int64 ``(Q, way, shot)``; way 0 is the true class.
        classes: Class of every support set before rotation, int64 ``(Q, way)``.
    """

    query: Tensor
    support: Tensor
    classes: Tensor

    def turned(self, turns: int, images: int) -> Trial:
        """Return the same decisions with query and support turned by so many right angles more.

        Args:
            turns: How many right angles.
            images: Number of images of the data set, each of which has four rows.
        """
        if turns == 0:
            return self
        shift = turns * images
        query, support = ((rows + shift) % (4 * images) for rows in (self.query, self.support))
        return Trial(query, support, self.classes)


def draw_trial(
    dataset: LabelledImages,
    way: int,
    shot: int,
    turns: int,
    generator: torch.Generator,
    *,
    contaminants: int = 0,
) -> Trial:
    """Draw the decisions of one trial: every class in every rotation is queried once.

    The query and its support are different images of one class in one rotation. The distractors
    are other classes (never the same class in another rotation), all different, each in a random
    rotation with ``shot`` random images. This is the protocol of the BRUNO paper and of most work
    on Omniglot since Vinyals et al. 2016.

    Args:
        dataset: The images; checked by :func:`check_trials`.
        way: Number of classes to choose from.
        shot: Number of support images of each.
        turns: Number of rotations, 1 or 4.
        generator: Source of randomness.
        contaminants: How many images of every support are replaced by images of other classes.

    Returns:
        The decisions.
    """
    device = generator.device
    own = torch.arange(dataset.num_classes, device=device).repeat(turns)
    own_turn = torch.arange(turns, device=device).repeat_interleave(dataset.num_classes)
    keys = uniform((len(own), dataset.num_classes), generator)
    keys.scatter_(1, own.unsqueeze(1), 2.0)  # the query's class is no distractor of its own
    others = keys.topk(way - 1, largest=False).indices
    other_turns = torch.randint(turns, others.shape, generator=generator, device=device)

    own_images = _draw_images(dataset, own, shot + 1, generator)
    other_images = _draw_images(dataset, others, shot, generator)
    support = torch.cat([own_images[:, None, 1:], other_images], 1)
    support_turns = torch.cat([own_turn[:, None], other_turns], 1)
    support = support_turns[..., None] * len(dataset) + support
    classes = torch.cat([own[:, None], others], 1)
    if contaminants:
        support[..., :contaminants] = _draw_contaminants(
            dataset, classes, contaminants, turns, generator
        )
    return Trial(query=own_turn * len(dataset) + own_images[:, 0], support=support, classes=classes)


def _draw_contaminants(
    dataset: LabelledImages, classes: Tensor, number: int, turns: int, generator: torch.Generator
) -> Tensor:
    """Return rows of random images of any class but the given ones: ``(Q, way, number)``."""
    shape, device = (*classes.shape, number), generator.device
    step = torch.randint(1, dataset.num_classes, shape, generator=generator, device=device)
    others = (classes.unsqueeze(-1) + step) % dataset.num_classes
    images = _draw_images(dataset, others, 1, generator).squeeze(-1)
    drawn_turns = torch.randint(turns, shape, generator=generator, device=device)
    return drawn_turns * len(dataset) + images


def check_trials(dataset: LabelledImages, way: int, shot: int, trials: int) -> None:
    """Raise if few-shot trials cannot be drawn.

    Args:
        dataset: The images.
        way: Number of classes to choose from.
        shot: Number of support images of each.
        trials: How often every class is queried.

    Raises:
        UserError: If a number is too small, there are fewer classes than ``way``, or a class has
            fewer than ``shot + 1`` images.
    """
    for argument, number, least in (("way", way, 2), ("shot", shot, 1), ("trials", trials, 1)):
        check_whole(argument, number, least)
    where = f"{dataset.name}/{dataset.split}"
    if way > dataset.num_classes:
        raise UserError(f"way: {where} has {dataset.num_classes} classes, too few for {way}-way")
    smallest = int(dataset.class_sizes.argmin())
    available = int(dataset.class_sizes[smallest])
    if available < shot + 1:
        raise UserError(
            f"shot: class {dataset.class_names[smallest]!r} of {where} has {available} "
            f"image{'s' * (available > 1)}, too few for {shot} support images and a query"
        )


def _draw_images(
    dataset: LabelledImages, classes: Tensor, number: int, generator: torch.Generator
) -> Tensor:
    """Return ``number`` distinct random images of every class, ``(*B,) -> (*B, number)``."""
    table = dataset.index_table[classes]
    # Padding gets a key above all others and is never among the smallest.
    keys = uniform(table.shape, generator).masked_fill_(table < 0, 2.0)
    return table.gather(-1, keys.topk(number, largest=False).indices)
