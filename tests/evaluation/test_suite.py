import dataclasses
import io
import json

import pytest
import torch
from PIL import Image

from bruno import Bruno, ExchangeableGaussian, RealNVP, UserError
from bruno.data import load_dataset
from bruno.evaluation.suite import PROTOCOLS, Settings, Subject, check_subject, evaluate
from bruno.reporting.figures import to_png
from bruno.reporting.protocol_pictures import PICTURES

NOT_OF_DIGITS = {"within_alphabet", "generation", "views", "pose"}
FEW = Settings(ways=(3,), shots=(1, 2), trials=1, set_size=4, probes=True, streams=3)


@pytest.fixture(scope="module")
def subject():
    dataset = load_dataset("digits", "test")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP(dataset.event_shape, preset="dense", dense_units=8, dense_couplings=1)
    return Subject(Bruno(flow, ExchangeableGaussian(flow.dim)), dataset)


def test_protocols_that_apply_are_measured_in_their_order(subject):
    said = []
    evaluation = evaluate(subject, FEW, progress=lambda *stage: said.append(stage[0]))
    assert list(evaluation.results) == ["likelihood", "few_shot"]
    assert {"encoding", "3-way 1-shot", "3-way 2-shot"} <= set(said)
    figures = json.loads(json.dumps(evaluation.to_dict()))
    assert figures["likelihood"]["set_size"] == 4
    assert [row["shot"] for row in figures["few_shot"]] == [1, 2]
    assert figures["seconds"] >= 0


def test_rows_fit_their_header(subject):
    evaluation = evaluate(subject, FEW, protocols=["all"])
    assert set(evaluation.results) == {*PROTOCOLS} - NOT_OF_DIGITS
    assert json.dumps(evaluation.to_dict())
    for name, results in evaluation.results.items():
        for result in results:
            rows = result.rows()
            assert rows
            assert {len(row) for row in rows} == {len(PROTOCOLS[name].header)}
    spread = [result.relative_spread for result in evaluation.results["exchangeability"]]
    assert len(spread) > 1
    assert max(spread) < 1e-6


def test_few_shot_episodes_follow_the_data_where_none_are_named(subject):
    evaluation = evaluate(subject, Settings(trials=1), protocols=["few_shot"])
    classes = subject.dataset.num_classes
    episodes = [(row.way, row.shot) for row in evaluation.results["few_shot"]]
    assert episodes == [(way, shot) for way in (5, 20) if way <= classes for shot in (1, 5)] or (
        episodes == [(classes, 1), (classes, 5)]
    )


def test_every_protocol_has_a_picture(subject):
    evaluation = evaluate(subject, FEW, protocols=["all"])
    for name, results in evaluation.results.items():
        with Image.open(io.BytesIO(to_png(PICTURES[name](results)))) as picture:
            assert min(picture.size) > 200, name


def test_sets_longer_than_the_smallest_class_are_refused(subject):
    too_long = dataclasses.replace(FEW, set_size=10_000)
    with pytest.raises(UserError, match=r"^set_size: expected 1 to \d+, the images of class"):
        evaluate(subject, too_long, protocols=["likelihood"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["speed"], "protocols: expected all or some of likelihood, few_shot, .* got 'speed'"),
        (
            ["views"],
            "protocols: 'views' needs a conditional model; got a model without context",
        ),
    ],
)
def test_wrong_protocols_are_named(subject, names, message):
    with pytest.raises(UserError, match=message):
        evaluate(subject, FEW, protocols=names)


def test_data_of_another_shape_are_named(subject):
    flow = RealNVP((1, 4, 4), preset="dense", dense_units=4)
    other = Bruno(flow, ExchangeableGaussian(16))
    with pytest.raises(UserError, match=r"images of shape \(1, 4, 4\), which the model takes"):
        check_subject(Subject(other, subject.dataset))
    with pytest.raises(UserError, match="unconditional: expected a conditional model"):
        check_subject(Subject(subject.model, subject.dataset, unconditional=other))
