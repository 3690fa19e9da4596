"""A tiny data set for few-shot systems."""

import torch

from bruno.data.dataset import LabelledImages
from bruno.seeding import generator_for


def squares(split, classes=12, images=12):
    """Images whose class is the place of a bright square, under noise of their own."""
    generator = generator_for(classes, len(split))
    noise = torch.randint(0, 60, (classes * images, 1, 16, 16), generator=generator)
    labels = torch.arange(classes).repeat_interleave(images)
    for index, label in enumerate(labels.tolist()):
        row, column = 4 * (label // 4) + 1, 4 * (label % 4)
        noise[index, 0, row : row + 3, column : column + 3] = 250
    names = tuple(f"{index:02}" for index in range(classes))
    return LabelledImages(noise.byte(), labels, names, "squares", split)
