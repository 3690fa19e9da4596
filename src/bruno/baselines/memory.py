r"""An LSTM with an external memory that is written to where it was least recently used.

At time t it takes image :math:`x_t`, the class of the image before, and the contents that were read
from the memory before (Santoro et al., ICML 2016, section 3). Reading is by the cosine to a key;
writing is to the slot that was just read or to the least recently used one (eqs. 2-8), with a
learnt sharpness of the reading, as in Neural Turing Machines.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot, softplus

from bruno.flows.bijection import FACTORY_KWARGS

_CONTROLLER, _SLOTS, _WIDTH, _HEADS, _DECAY = 200, 128, 40, 4, 0.95


class MemoryState(NamedTuple):
    """State of B sequences; ``hidden`` and ``cell`` of the LSTM are ``(B, 200)``."""

    hidden: Tensor
    cell: Tensor
    memory: Tensor  # (B, slots, width)
    read: Tensor  # (B, heads, slots), weights of the reads
    contents: Tensor  # (B, heads * width), the contents read by them
    usage: Tensor  # (B, slots)
    last_class: Tensor  # (B, classes), one-hot, or 0 at the start


class MemoryController(nn.Module):
    """The LSTM and its memory.

    Args:
        pixels: Numbers in an image.
        classes: Largest number of classes.
    """

    def __init__(self, pixels: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        inputs = pixels + classes + _HEADS * _WIDTH
        self.controller = nn.LSTMCell(inputs, _CONTROLLER, **FACTORY_KWARGS)
        self.keys = nn.Linear(_CONTROLLER, _HEADS * (_WIDTH + 2), **FACTORY_KWARGS)
        self.output = nn.Linear(_CONTROLLER + _HEADS * _WIDTH, classes, **FACTORY_KWARGS)

    def start(self, batch: int) -> MemoryState:
        """Return the state before the first image of sequences."""
        like = self.output.bias
        hidden = like.new_zeros(batch, _CONTROLLER)
        memory = like.new_full((batch, _SLOTS, _WIDTH), 1e-6)
        read = like.new_zeros(batch, _HEADS, _SLOTS)
        return MemoryState(
            hidden,
            hidden,
            memory,
            read,
            contents=like.new_zeros(batch, _HEADS * _WIDTH),
            usage=like.new_zeros(batch, _SLOTS),
            last_class=like.new_zeros(batch, self.classes),
        )

    def step(self, state: MemoryState, images: Tensor) -> tuple[MemoryState, Tensor]:
        """Read one image of every sequence; the class is to be put into the state afterwards.

        Args:
            state: The state.
            images: uint8 ``(B, C, H, W)``.

        Returns:
            The state, and logits of the classes, ``(B, classes)``.
        """
        pixels = images.flatten(1).to(state.hidden.dtype) / 255
        hidden, cell = self.controller(
            torch.cat([pixels, state.last_class, state.contents], 1), (state.hidden, state.cell)
        )
        heads = self.keys(hidden).unflatten(1, (_HEADS, _WIDTH + 2))
        key, gate, sharpness = heads[..., :-2].tanh(), heads[..., -2:-1].sigmoid(), heads[..., -1:]
        least_used = state.usage.topk(_HEADS, largest=False).indices  # one slot for every head
        free = one_hot(least_used, _SLOTS).to(pixels)
        write = gate * state.read + (1 - gate) * free
        kept = 1 - free[:, 0]  # the least used slot is erased before the write
        memory = state.memory * kept.unsqueeze(-1) + write.transpose(1, 2) @ key
        cosine = normalize(key, dim=-1) @ normalize(memory, dim=-1).transpose(1, 2)
        read = ((1 + softplus(sharpness + 2)) * cosine).softmax(-1)
        usage = _DECAY * state.usage + read.sum(1) + write.sum(1)
        contents = (read @ memory).flatten(1)
        scores = self.output(torch.cat([hidden, contents], 1))
        after = MemoryState(hidden, cell, memory, read, contents, usage.detach(), state.last_class)
        return after, scores

    def shown(self, state: MemoryState, labels: Tensor) -> MemoryState:
        """Return the state once the classes of the images just read are shown.

        Args:
            state: The state.
            labels: Classes, ``(B,)``.
        """
        return state._replace(last_class=one_hot(labels, self.classes).to(state.hidden))
