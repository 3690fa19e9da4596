"""Few-shot classification: the class whose predictive gives the query the highest density."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.model import Bruno
from bruno.pixels import as_pixels


@torch.no_grad()
def classify(
    model: Bruno,
    support: Tensor,
    support_labels: Tensor | Sequence[Hashable],
    query: Tensor,
    *,
    support_context: Tensor | None = None,
    query_context: Tensor | None = None,
) -> tuple[Tensor, list[Any]]:
    r"""Return :math:`\log p(\text{class} | \text{query})` under a uniform prior over the classes.

    By Bayes' rule this is the log-softmax of log p(query | support of the class), whose
    log-determinant is the same for all classes and cancels. Classes may have any number of
    support images, each its own.

    Args:
        model: The model.
        support: Labelled examples, ``(N, *event)``, as :class:`~bruno.model.Bruno` takes them:
            images as grey levels (uint8, or whole numbers) or as dequantised pixels.
        support_labels: Label of every example: a tensor or any sequence of hashable, sortable
            things such as strings.
        query: Elements to classify, ``(Q, *event)``, given in the same way.
        support_context: Context of the examples for a conditional model, ``(N, context_dim)``.
        query_context: Context of the queries for a conditional model, ``(Q, context_dim)``.

    Returns:
        Log-probabilities, float64 ``(Q, K)``, and the K distinct labels, sorted, that its columns
        stand for.

    Raises:
        UserError: If there is no support, not one label for every example, labels cannot be
            sorted, the flow cannot take the elements, or pixels are of the wrong kind.
    """
    listed = support_labels.tolist() if hasattr(support_labels, "tolist") else support_labels
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise UserError(f"support_labels: expected a label for every example, got {listed!r}")
    labels: list[Any] = [label.item() if torch.is_tensor(label) else label for label in listed]
    z = _encoded(model, "support", support, support_context)
    if len(z) == 0:
        raise UserError("support: expected at least one example, got none")
    if len(labels) != len(z):
        raise UserError(f"support_labels: expected {len(z)} labels, got {len(labels)}")
    try:
        classes = sorted(set(labels))
    except TypeError as error:
        raise UserError(f"support_labels: expected hashable, sortable labels: {error}") from None
    column = {label: index for index, label in enumerate(classes)}
    columns = [column[label] for label in labels]
    members = torch.tensor(columns, device=z.device, dtype=torch.int64)
    evidence = Evidence.by_class(z, members)
    queries = _encoded(model, "query", query, query_context)
    scores = model.process.first(z.shape[-1]).log_prob_given(queries, evidence)
    return scores.log_softmax(-1), classes


def _encoded(model: Bruno, name: str, x: Tensor, context: Tensor | None) -> Tensor:
    if not torch.is_tensor(x) or x.shape[1:] != model.event_shape:
        got = tuple(x.shape) if torch.is_tensor(x) else type(x).__name__
        event = ", ".join(map(str, model.event_shape))
        raise UserError(f"{name}: expected a tensor of shape (n, {event}), got {got}")
    if x.ndim == 4:
        x = as_pixels(name, x)
    device = model.device
    if len(x) == 0:
        x = torch.zeros(0, *model.event_shape, device=device, dtype=torch.float32)
        context = (
            torch.zeros(0, model.flow.context_dim, device=device, dtype=torch.float32)
            if model.flow.context_dim
            else None
        )
    return model.encode_code(x.to(device), None if context is None else context.to(device))
