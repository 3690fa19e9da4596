"""Judge exact samples of new views: does another network see the right object from the right side?

    python benchmarks/judged_views.py [--pretrained turntable]

A small convolutional network, in which no model of the package has a part, learns the category and
the azimuth of single views of the training objects. It then looks at views of test objects: real
ones, and exact samples given one and four other views. A view is named right if its category is
and its azimuth is at most 30 degrees off. Writes ``docs/results/judged-views.json``.
"""

from __future__ import annotations

import argparse
import json
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from bruno import Bruno
from bruno.data import LabelledImages, load_dataset
from bruno.data.sets import dequantise, quantise
from bruno.evaluation.interval import estimate
from bruno.provenance import provenance
from bruno.seeding import generator_for
from bruno.training.locate import locate_model

_OUT = Path(__file__).parents[1] / "docs" / "results" / "judged-views.json"
_GIVEN, _TARGETS, _CHUNK = (1, 4), 4, 64
_LARGEST_ERROR = 30.0


class Judge(nn.Module):
    """Category and azimuth of a view."""

    def __init__(self, categories: int, units: int = 32) -> None:
        super().__init__()
        widths = (1, units, 2 * units, 4 * units)
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [nn.Conv2d(inner, outer, 3, padding=1), nn.BatchNorm2d(outer), nn.ReLU()]
            layers += [nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3))
        self.category = nn.Linear(widths[-1] * 16, categories)
        self.direction = nn.Linear(widths[-1] * 16, 2)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return scores of categories and a vector in the direction (sine, cosine)."""
        hidden = self.features(images.float() / 255)
        return self.category(hidden), self.direction(hidden)


def categories_of(dataset: LabelledImages, names: list[str]) -> Tensor:
    """Return the index of the category of every object, -1 for one that is not among the names."""
    index = {name: number for number, name in enumerate(names)}
    return torch.tensor([index.get(name.split("/")[0], -1) for name in dataset.class_names])


def train_judge(dataset: LabelledImages, names: list[str], epochs: int, seed: int) -> Judge:
    """Return a judge that has learnt from the training objects."""
    torch.manual_seed(seed)
    judge = Judge(len(names))
    of_image = categories_of(dataset, names)[dataset.labels]
    optimiser = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.05)
    size, batch = len(dataset), 128
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 2e-3, total_steps=epochs * (size // batch)
    )
    for epoch in range(epochs):
        order = torch.randperm(size, generator=generator_for(seed, epoch))
        for rows in order[: size // batch * batch].view(-1, batch):
            scores, direction = judge(dataset.images[rows])
            wrong = nn.functional.cross_entropy(scores, of_image[rows], label_smoothing=0.1)
            turned = (direction - dataset.context[rows]).square().mean()
            optimiser.zero_grad()
            (wrong + 2 * turned).backward()
            optimiser.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}: {wrong:.3f} {turned:.3f}", flush=True)
    return judge.eval()


@torch.no_grad()
def is_right(judge: Judge, images: Tensor, category: Tensor, context: Tensor) -> Tensor:
    """Return whether views ``(N, 1, H, W)`` are named right, ``(N,)``."""
    parts = [judge(part) for part in images.split(500)]
    scores, direction = (torch.cat(column) for column in zip(*parts, strict=True))
    cosine = nn.functional.cosine_similarity(direction, context)
    near = cosine.clamp(-1, 1).acos().rad2deg() <= _LARGEST_ERROR
    return near & (scores.argmax(1) == category)


@torch.no_grad()
def samples(model: Bruno, dataset: LabelledImages, views: Tensor, given: int, seed: int) -> Tensor:
    """Return one exact sample of every target view, grey levels ``(objects · targets, 1, H, W)``.

    ``views`` are the rows of targets, then of views to give, ``(objects, targets + given)``.
    """
    generator, drawn = generator_for(seed, given), []
    for rows in views.split(_CHUNK):
        seen, targets = rows[:, _TARGETS : _TARGETS + given], rows[:, :_TARGETS]
        x = dequantise(dataset.images[seen.flatten()], generator).unflatten(0, seen.shape)
        predictive = model.condition(x, dataset.context[seen])
        sample = predictive.sample((_TARGETS,), dataset.context[targets].transpose(0, 1), generator)
        drawn.append(quantise(sample).transpose(0, 1).flatten(0, 1))
        print(f"sampled {sum(map(len, drawn))} views given {given}", flush=True)
    return torch.cat(drawn)


def main() -> None:
    """Train the judge, let it look at real and drawn views, and write the shares named right."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pretrained", default="turntable")
    parser.add_argument("--run", help="a run in the place of a pretrained model")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    located = locate_model(arguments.run, None if arguments.run else arguments.pretrained)
    model, config = located.load(), located.data_config({})
    training_set, test_set = load_dataset(config, "train"), load_dataset(config, "test")
    names = sorted({name.split("/")[0] for name in training_set.class_names})
    judge = train_judge(training_set, names, arguments.epochs, arguments.seed)
    generator = generator_for(arguments.seed)
    views = torch.stack(
        [
            rows[torch.randperm(len(rows), generator=generator)[: _TARGETS + max(_GIVEN)]]
            for rows in map(test_set.indices_of, range(test_set.num_classes))
        ]
    )
    targets = views[:, :_TARGETS].flatten()
    category = categories_of(test_set, names).repeat_interleave(_TARGETS)
    objects = torch.arange(test_set.num_classes).repeat_interleave(_TARGETS)
    drawn = {"real views": test_set.images[targets]} | {
        f"samples given {given}": samples(model, test_set, views, given, arguments.seed)
        for given in _GIVEN
    }
    context = test_set.context[targets]
    right = {
        name: estimate(100.0 * is_right(judge, images, category, context), objects).to_dict()
        for name, images in drawn.items()
    }
    figures = {
        "command": f"python benchmarks/judged_views.py --pretrained {arguments.pretrained} "
        f"--epochs {arguments.epochs} --seed {arguments.seed}",
        **provenance(),
        "objects": test_set.num_classes,
        "categories": len(names),
        "named right, %": right,
    }
    _OUT.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(right, indent=2))


if __name__ == "__main__":
    main()
