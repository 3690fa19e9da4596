import dataclasses

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score

from bruno import UserError
from bruno.evaluation.anomaly import chance_average_precision
from bruno.evaluation.anomaly_streams import (
    FOREST,
    LEAVE_ONE_OUT,
    SEQUENTIAL,
    _alarms,
    _draw_streams,
    _OneStream,
    _thresholds,
    anomaly_streams,
)
from tests.evaluation.conftest import make_dataset, make_model


def test_planted_elements_are_of_other_classes_and_all_others_are_different():
    dataset = make_dataset(classes=4, size=9)
    rows, classes, foreign = _draw_streams(dataset, 8, 10, 2, seed=0)
    assert foreign.sum(1).tolist() == [2] * 8
    assert not foreign[:, 0].any()
    labels = dataset.labels[rows]
    assert torch.equal(labels == classes.unsqueeze(1), ~foreign)
    for stream, planted in zip(rows, foreign, strict=True):
        own = stream[~planted]
        assert len(own.unique()) == len(own)
    assert classes.bincount().tolist() == [2] * 4


def test_streams_may_be_longer_than_classes_by_their_planted_elements():
    dataset = make_dataset(classes=3, size=9)
    result = anomaly_streams(make_model(), dataset, streams=3)
    assert (result.length, result.n_anomalies) == (10, 1)


def test_separable_classes_are_separated_by_every_method(dataset):
    result = anomaly_streams(make_model(), make_dataset(size=18), streams=6)
    by_method = {one.method: one for one in result.methods}
    for name in (SEQUENTIAL, LEAVE_ONE_OUT, FOREST):
        assert by_method[name].auroc.mean > 0.9, name
    assert [row[0] for row in result.rows()][:-1] == [*by_method, "chance"]
    assert result.to_dict()["quartile_rule"]["recall"]["mean"] is not None


def test_curves_cover_every_position_but_the_first():
    result = anomaly_streams(make_model(), make_dataset(size=18), streams=6)
    assert result.windows == ((2, 6), (7, 10), (11, 15), (16, 20))
    for method in result.methods:
        assert len(method.curve) == len(method.average_precision_curve) == len(result.windows)
    ours = result.to_dict()["methods"][0]
    means = [point["mean"] for point in ours["average_precision_curve"]]
    assert np.nanmin(means) > 0.8


def test_chance_of_average_precision_is_that_of_random_orders():
    generator = np.random.default_rng(0)
    planted = np.arange(21) < 2
    drawn = [average_precision_score(planted, generator.random(21)) for _ in range(2000)]
    assert chance_average_precision(21, 2) == pytest.approx(np.mean(drawn), abs=0.02)
    assert chance_average_precision(2, 1) == 0.75


def test_noise_cannot_be_told_from_noise():
    dataset = make_dataset(classes=6, size=18, separable=False)
    result = anomaly_streams(make_model(), dataset, streams=12)
    assert abs(result.methods[0].auroc.mean - 0.5) < 0.25


def test_leave_one_out_equals_conditioning_on_all_others():
    model = make_model()
    z = torch.randn(6, 64, generator=torch.Generator().manual_seed(0)).double()
    with torch.no_grad():
        scores = _OneStream(model, z, np.zeros((6, 4), dtype=np.float32), 0).leave_one_out()
    for i in range(6):
        others = torch.cat([z[:i], z[i + 1 :]])
        process = model.process
        joint = process.log_prob(torch.cat([others, z[i : i + 1]])) - process.log_prob(others)
        expected = joint - process.log_prob(z[i : i + 1])
        assert scores[i] == pytest.approx(float(expected.detach()), abs=1e-6)


def test_the_quartile_rule_looks_at_past_scores_only():
    scores = np.array([0.0, 1, 2, 3, 4, -100, 2, 2])
    thresholds = _thresholds(scores)
    assert np.isinf(thresholds[:5]).all()
    first, third = np.quantile([1, 2, 3, 4], (0.25, 0.75))
    assert thresholds[5] == first - 1.5 * (third - first)
    alarms = (scores < thresholds)[None]
    foreign = np.zeros((1, 8), dtype=bool)
    foreign[0, 5] = True
    rule = _alarms(alarms, foreign, torch.tensor([0]), 4)
    assert (rule.recall.mean, rule.false_alarm_rate.mean) == (1.0, 0.0)


def test_the_seed_decides_everything(dataset):
    first, second, other = (
        anomaly_streams(make_model(), dataset, streams=4, seed=seed).to_dict() for seed in (0, 0, 1)
    )
    assert first == second
    assert first["example"] != other["example"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"length": 50}, r"^length: expected streams with .* at most 5 images of one class"),
        ({"streams": 0}, "^streams: expected"),
        ({"share": 0.0}, "^share: expected"),
    ],
)
def test_bad_arguments(dataset, arguments, message):
    with pytest.raises(UserError, match=message):
        anomaly_streams(make_model(), dataset, **arguments)


def test_one_class_is_refused():
    with pytest.raises(UserError, match="has one class"):
        anomaly_streams(make_model(), make_dataset(classes=1))


def test_a_class_with_one_image_is_refused():
    dataset = make_dataset(classes=2, size=1)
    assert dataclasses.is_dataclass(dataset)
    with pytest.raises(UserError, match=r"^data: class 'class 0' .* has one image; streams need"):
        anomaly_streams(make_model(), dataset)
