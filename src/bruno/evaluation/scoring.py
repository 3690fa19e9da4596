"""Scores of many few-shot decisions, each with support sets of its own."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from bruno import chunks
from bruno.device import one_thread
from bruno.evaluation.trials import Trial
from bruno.evidence import Evidence
from bruno.processes import ExchangeableProcess


def is_correct(scores: Tensor) -> Tensor:
    """Return which decisions are right, ``(Q, way) -> (Q,)``; column 0 is the true class.

    Ties, and scores that are not finite, are wrong.
    """
    best = (scores[:, :1] > scores[:, 1:]).all(-1)
    return best & torch.isfinite(scores).all(-1)


@torch.no_grad()
def trial_scores(process: ExchangeableProcess, z: Tensor, trial: Trial) -> Tensor:
    """Return log p(query | support set) of every decision up to a constant per query, in nats.

    Args:
        process: The process of the latent vectors.
        z: Latent vectors that ``trial`` refers to, shape ``(rows, D)``.
        trial: The decisions.

    Returns:
        Shape ``(Q, way)``, float64.
    """
    way = trial.support.shape[1]
    rows = chunks.rows_per_chunk(way * z.shape[-1], chunks.device_limit(z.device))
    with one_thread():
        scores = [
            process.predictive(_evidence_of_rows(z, support)).log_prob(_rows(z, query.unsqueeze(1)))
            for query, support in _chunks(trial, rows, z.device)
        ]
    return torch.cat(scores)


def _chunks(trial: Trial, rows: int, device: torch.device) -> Iterator[tuple[Tensor, Tensor]]:
    query, support = trial.query.to(device), trial.support.to(device)
    return zip(query.split(rows), support.split(rows), strict=True)


def _evidence_of_rows(z: Tensor, rows: Tensor) -> Evidence:
    """Return the evidence of sets given as rows of ``z``, ``(*B, shot) -> *B``.

    Welford's recurrence over the few elements of a set needs no ``(*B, shot, D)`` tensor; and a
    latent vector that is not finite spoils its own set only, instead of raising as
    ``Evidence.of`` does, so that it counts as a wrong decision.
    """
    mean = _rows(z, rows[..., 0])
    scatter = torch.zeros_like(mean)
    for seen in range(1, rows.shape[-1]):
        shift = _rows(z, rows[..., seen]).sub_(mean)
        mean = mean.add(shift, alpha=1 / (seen + 1))
        scatter.addcmul_(shift, shift, value=seen / (seen + 1))
    count = torch.full_like(rows[..., 0], rows.shape[-1])
    return Evidence(count, mean, scatter)


def _rows(z: Tensor, rows: Tensor) -> Tensor:
    """Return rows of ``z`` in float64, ``(*B,) -> (*B, D)``."""
    selected: Tensor = z.index_select(0, rows.flatten()).double().unflatten(0, rows.shape)
    return selected
