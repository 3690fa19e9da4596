r"""An LSTM with an external memory that is written to where it was least recently used.

At time t it reads image :math:`x_t` and the class of the image before. Reading is by the cosine to
a key; writing is to the slot that was just read or to the least recently used one (Santoro et al.,
ICML 2016, eqs. 2-8), with a learnt sharpness of the reading, as in Neural Turing Machines.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot, softplus

from bruno.flows.bijection import FACTORY_KWARGS

_CONTROLLER, _SLOTS, _WIDTH, _HEADS, _DECAY = 200, 128, 40, 4, 0.95


class MemoryState(NamedTuple):
    """State of B sequences: LSTM ``(B, 200)`` twice, memory, weights of the reads, usage, reads."""

    hidden: Tensor
    cell: Tensor
    memory: Tensor  # (B, slots, width)
    read: Tensor  # (B, heads, slots)
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
        self.controller = nn.LSTMCell(pixels + classes, _CONTROLLER, **FACTORY_KWARGS)
        self.keys = nn.Linear(_CONTROLLER, _HEADS * (_WIDTH + 2), **FACTORY_KWARGS)
        self.output = nn.Linear(_CONTROLLER + _HEADS * _WIDTH, classes, **FACTORY_KWARGS)

    def start(self, batch: int) -> MemoryState:
        """Return the state before the first image of sequences."""
        like = self.output.bias
        hidden = like.new_zeros(batch, _CONTROLLER)
        memory = like.new_full((batch, _SLOTS, _WIDTH), 1e-6)
        read = like.new_zeros(batch, _HEADS, _SLOTS)
        usage = like.new_zeros(batch, _SLOTS)
        return MemoryState(hidden, hidden, memory, read, usage, hidden[:, : self.classes])

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
            torch.cat([pixels, state.last_class], 1), (state.hidden, state.cell)
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
        scores = self.output(torch.cat([hidden, (read @ memory).flatten(1)], 1))
        return MemoryState(hidden, cell, memory, read, usage.detach(), state.last_class), scores

    def shown(self, state: MemoryState, labels: Tensor) -> MemoryState:
        """Return the state once the classes of the images just read are shown.

        Args:
            state: The state.
            labels: Classes, ``(B,)``.
        """
        return state._replace(last_class=one_hot(labels, self.classes).to(state.hidden))
