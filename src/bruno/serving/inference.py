"""One flow pass for all requests in flight, and the threads in which models and database work."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sqlalchemy.engine import Row
from torch import Tensor

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.serving.batching import Batcher
from bruno.serving.learning import Change, Forget, ForgetClass, apply_all
from bruno.serving.metrics import Metrics
from bruno.serving.model import Encoded, ServedModel
from bruno.serving.projects import served_row
from bruno.serving.settings import ServerSettings
from bruno.serving.snapshots import Snapshot, Snapshots
from bruno.serving.store import Store

_MOST_ELEMENTS_A_PASS = 32
# A flow pass gives up Python's lock at every operation, and by default waits 5 ms for it.
_SWITCH_SECONDS = 0.0005
_FURTHEST = 1e100  # latent coordinates whose squares, and sums of very many, are finite


@dataclass(frozen=True, eq=False)
class Encode:
    """Elements to encode.

    Attributes:
        elements: ``(N, *event)``.
        with_densities: Whether log p(x) is wanted.
        repeatably: Whether the bits must not depend on what else is encoded; then there are no
            densities.
    """

    elements: Tensor
    with_densities: bool = False
    repeatably: bool = False


@dataclass(frozen=True, eq=False)
class EncodeToLearn:
    """Elements to encode as a project learns them: repeatably if it keeps no examples.

    Attributes:
        elements: ``(N, *event)``.
        project: Name of the project.
    """

    elements: Tensor
    project: str


@dataclass(frozen=True, eq=False)
class Classify:
    """Elements to classify.

    Attributes:
        elements: ``(N, *event)``.
        project: Name of the project.
        unknown_prior: Prior probability of none of its classes; that of the project by default.
        with_densities: Whether log p(x) is wanted.
    """

    elements: Tensor
    project: str
    unknown_prior: float | None = None
    with_densities: bool = False


@dataclass(frozen=True, eq=False)
class Classified:
    """Probabilities and densities of elements.

    Attributes:
        names: The classes.
        probabilities: ``(N, K + 1)``, the last of none of the classes.
        log_ratio: log p(x | class) - log p(x), in nats, ``(N, K)``.
        log_prob: log p(x) of an element of an unknown class, in nats, ``(N,)``, if it was wanted.
    """

    names: tuple[str, ...]
    probabilities: Tensor
    log_ratio: Tensor
    log_prob: Tensor | None


@dataclass(frozen=True, eq=False)
class Draw:
    """New elements to draw.

    Attributes:
        evidence: Of the set they are drawn given.
        count: How many.
        latent_scale: 1 for exact samples.
        seed: Seed.
    """

    evidence: Evidence
    count: int
    latent_scale: float
    seed: int


class Inference:
    """A model and a store, each with threads that gather the requests in flight.

    Args:
        model: The model.
        store: The store.
        settings: Settings of the server.
        metrics: Where batch sizes are counted.
    """

    def __init__(
        self, model: ServedModel, store: Store, settings: ServerSettings, metrics: Metrics
    ) -> None:
        self.model = model
        self.store = store
        self.snapshots = Snapshots(model.sha256, model.name)
        torch.set_num_threads(settings.threads)
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._passes: Batcher[Encode | EncodeToLearn | Classify] = Batcher(
            self._pass,
            "flow",
            window=settings.window / 1000,
            observe=metrics.pass_sizes.observe,
        )
        self._draws: Batcher[Draw] = Batcher(self._drawn, "draw", most=8)
        self._changes: Batcher[Change] = Batcher(
            self._changed, "store", observe=metrics.transaction_sizes.observe
        )
        metrics.waiting.labels("flow").set_function(self._passes.waiting)
        metrics.waiting.labels("draw").set_function(self._draws.waiting)
        metrics.waiting.labels("store").set_function(self._changes.waiting)

    def close(self) -> None:
        """Finish what is begun, and stop."""
        for batcher in (self._passes, self._draws, self._changes):
            batcher.close()

    async def encode(self, item: Encode) -> Encoded:
        """Return codes and densities of elements."""
        encoded: Encoded = await self._passes.result(item)
        return encoded

    async def encode_to_learn(self, item: EncodeToLearn) -> tuple[Row[Any], Encoded]:
        """Return the row of a project, and the codes of elements as it learns them.

        Raises:
            RefusalError: 404 without the project, 409 if it belongs to another model.
        """
        found: tuple[Row[Any], Encoded] = await self._passes.result(item)
        return found

    async def classify(self, item: Classify) -> Classified:
        """Return the probabilities of the classes of a project."""
        classified: Classified = await self._passes.result(item)
        return classified

    async def draw(self, draw: Draw) -> Tensor:
        """Return new elements ``(count, *event)``."""
        drawn: Tensor = await self._draws.result(draw)
        return drawn

    async def change(self, change: Change) -> Any:
        """Return the result of a change when it is durable."""
        return await self._changes.result(change)

    def _pass(self, items: list[Encode | EncodeToLearn | Classify]) -> list[Any]:
        results: list[Any] = [None] * len(items)
        rows = self._project_rows({one.project for one in items if isinstance(one, EncodeToLearn)})
        waiting_for_codes: dict[int, Encode | Classify] = {}
        for index, item in enumerate(items):
            if not isinstance(item, EncodeToLearn):
                waiting_for_codes[index] = item
            elif isinstance(row := rows[item.project], ValueError):
                results[index] = row
            else:
                repeatably = not row.keep_examples
                waiting_for_codes[index] = Encode(item.elements, repeatably=repeatably)
        for index, encoded in self._encoded(waiting_for_codes):
            results[index] = encoded
            if not bool((encoded.codes.abs() <= _FURTHEST).all()):  # nor NaN
                results[index] = UserError(
                    "elements: expected some near what the model was trained on, got one so far "
                    "away that densities are no numbers"
                )
        waiting: dict[tuple[str, float | None], list[int]] = {}
        for index, item in enumerate(items):
            if isinstance(item, Classify) and isinstance(results[index], Encoded):
                waiting.setdefault((item.project, item.unknown_prior), []).append(index)
            if isinstance(item, EncodeToLearn) and isinstance(results[index], Encoded):
                results[index] = rows[item.project], results[index]
        for (project, unknown_prior), indices in waiting.items():
            try:
                classified = self._classified(
                    project, unknown_prior, [results[index] for index in indices]
                )
                for index, one in zip(indices, classified, strict=True):
                    results[index] = one
            except ValueError as error:
                for index in indices:
                    results[index] = error
        return results

    def _project_rows(self, names: Collection[str]) -> dict[str, Row[Any] | ValueError]:
        """Return the rows of projects of the served model, or the refusals of others."""
        found: dict[str, Row[Any] | ValueError] = {}
        for name in names:
            try:
                with self.store.reading() as connection:
                    found[name] = served_row(connection, name, self.model)
            except ValueError as refusal:
                found[name] = refusal
        return found

    def _encoded(self, items: Mapping[int, Encode | Classify]) -> Iterator[tuple[int, Encoded]]:
        """Yield the index of every item with its codes; those of one kind are encoded together."""
        together: dict[bool, list[int]] = {}
        for index, item in items.items():
            if isinstance(item, Encode) and item.repeatably:
                yield index, self.model.encode_repeatably(item.elements)
            else:
                together.setdefault(item.with_densities, []).append(index)
        for with_densities, indices in together.items():
            sizes = [len(items[index].elements) for index in indices]
            parts = [
                self.model.encode(part, with_densities=with_densities)
                for part in torch.cat([items[index].elements for index in indices]).split(
                    _MOST_ELEMENTS_A_PASS
                )
            ]
            codes = torch.cat([part.codes for part in parts]).split(sizes)
            found = [part.log_prob for part in parts if part.log_prob is not None]
            log_prob = torch.cat(found).split(sizes) if found else [None] * len(sizes)
            yield from zip(indices, map(Encoded, codes, log_prob), strict=True)

    def _classified(
        self, project: str, unknown_prior: float | None, encoded: list[Encoded]
    ) -> list[Classified]:
        snapshot = self.snapshot(project)
        sizes = [len(one.codes) for one in encoded]
        codes = torch.cat([one.codes for one in encoded])
        prior = snapshot.unknown_prior if unknown_prior is None else unknown_prior
        p, log_ratio = self.model.class_probabilities(codes, snapshot.evidence, prior)
        return [
            Classified(snapshot.names, own_p, own_ratio, one.log_prob)
            for own_p, own_ratio, one in zip(
                p.split(sizes), log_ratio.split(sizes), encoded, strict=True
            )
        ]

    def snapshot(self, project: str) -> Snapshot:
        """Return a project as it is now; reads the database.

        Raises:
            RefusalError: 404 without the project, 409 if it belongs to another model.
        """
        with self.store.reading() as connection:
            return self.snapshots.now(connection, project)

    def _drawn(self, items: list[Draw]) -> list[Any]:
        z = [
            self.model.draw(item.evidence, item.count, item.latent_scale, item.seed)
            for item in items
        ]
        parts = [self.model.decode(part) for part in torch.cat(z).split(_MOST_ELEMENTS_A_PASS)]
        return list(torch.cat(parts).split([item.count for item in items]))

    def _changed(self, changes: list[Change]) -> list[Any]:
        results = self.store.write(lambda connection: apply_all(connection, changes))
        forgets = [isinstance(change, Forget | ForgetClass) for change in changes]
        if any(forgets):
            erased = self.store.erase_traces()
            results = [
                (result, erased) if forget and not isinstance(result, Exception) else result
                for result, forget in zip(results, forgets, strict=True)
            ]
        return results
