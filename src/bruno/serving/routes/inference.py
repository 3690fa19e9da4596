"""What a model computes: classes, samples, densities and ranks."""

from __future__ import annotations

import anyio
from fastapi import APIRouter
from torch import Tensor

from bruno.errors import UserError
from bruno.evidence import Evidence
from bruno.serving.elements import picture
from bruno.serving.errors import RefusalError
from bruno.serving.inference import Classify, Draw, Encode
from bruno.serving.routes import PREFIX
from bruno.serving.routes.projects import Project
from bruno.serving.schemas.elements import ElementInput
from bruno.serving.schemas.inference import (
    Classification,
    ClassifyAnswer,
    ClassifyInput,
    ClassProbability,
    GivenSet,
    RankAnswer,
    RankInput,
    SampleAnswer,
    SampleInput,
    ScoreAnswer,
    ScoreInput,
)
from bruno.serving.state import Server, ServerState

router = APIRouter(prefix=f"{PREFIX}/projects/{{project}}", tags=["inference"])


@router.post("/classify")
async def classify(server: Server, project: Project, given: ClassifyInput) -> ClassifyAnswer:
    """Return the probabilities of the classes, and of none of them, of each element."""
    elements = await server.reader.read(given.elements, "elements")
    result = await server.inference.classify(
        Classify(elements, project, given.unknown_prior, given.with_densities)
    )
    known = result.probabilities[:, :-1]
    best = known.argsort(1, descending=True)[:, : given.top].tolist()
    p, none = known.tolist(), result.probabilities[:, -1].tolist()
    log_ratio = result.log_ratio.tolist()
    log_p = [None] * len(elements) if result.log_prob is None else result.log_prob.tolist()
    with_images = given.with_images and server.model.format.is_image
    return ClassifyAnswer(
        results=[
            Classification(
                classes=[
                    ClassProbability(
                        name=result.names[k],
                        probability=p[row][k],
                        log_ratio=log_ratio[row][k],
                        log_density=None if log_p[row] is None else log_p[row] + log_ratio[row][k],
                    )
                    for k in best[row]
                ],
                none_of_these=none[row],
                log_density=log_p[row],
                image=picture(elements[row]) if with_images else None,
            )
            for row in range(len(elements))
        ]
    )


@router.post("/sample")
async def sample(server: Server, project: Project, given: SampleInput) -> SampleAnswer:
    """Draw new elements of a class, of a set, or of the prior."""
    refusal = server.model.refusal_to_draw
    if refusal is not None and not given.force:
        raise RefusalError(409, f"model: {refusal}; force draws all the same")
    evidence = await _evidence(server, project, given)
    drawn = await server.inference.draw(Draw(evidence, given.count, given.latent_scale, given.seed))
    if server.model.format.is_image:
        return SampleAnswer(images=[picture(one) for one in drawn], vectors=None)
    if not drawn.isfinite().all():
        raise UserError("latent_scale: expected one whose samples are finite")
    return SampleAnswer(images=None, vectors=drawn.tolist())


@router.post("/score")
async def score(server: Server, project: Project, given: ScoreInput) -> ScoreAnswer:
    """Return the log-densities of elements given a class, a set, or nothing."""
    evidence = await _evidence(server, project, given)
    elements = await server.reader.read(given.elements, "elements")
    encoded = await server.inference.encode(Encode(elements, with_densities=True))
    assert encoded.log_prob is not None  # noqa: S101 - as was asked
    of_set = encoded.log_prob + server.model.log_ratio(encoded.codes, evidence)
    return ScoreAnswer(log_density=of_set.tolist(), prior_log_density=encoded.log_prob.tolist())


@router.post("/rank")
async def rank(server: Server, project: Project, given: RankInput) -> RankAnswer:
    """Rank a corpus by log p(x | handful) - log p(x), as in Bayesian Sets."""
    await anyio.to_thread.run_sync(server.inference.snapshot, project)
    handful = await _encoded_set(server, given.handful, "handful")
    elements = await server.reader.read(given.corpus, "corpus")
    encoded = await server.inference.encode(Encode(elements))
    gain = server.model.log_ratio(encoded.codes, Evidence.of(handful))
    order = gain.argsort(descending=True, stable=True)[: given.top]
    return RankAnswer(order=order.tolist(), scores=gain[order].tolist())


async def _evidence(server: ServerState, project: str, given: GivenSet) -> Evidence:
    snapshot = await anyio.to_thread.run_sync(server.inference.snapshot, project)
    if given.class_name is not None:
        return snapshot.of_class(given.class_name)
    if not given.given:
        return server.model.no_evidence()
    return Evidence.of(await _encoded_set(server, given.given, "given"))


async def _encoded_set(server: ServerState, given: list[ElementInput], name: str) -> Tensor:
    elements = await server.reader.read(given, name)
    encoded = await server.inference.encode(Encode(elements))
    return encoded.codes
