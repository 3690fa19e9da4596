import json
import math

import pytest
import torch

from bruno import UserError
from bruno.data.sets import dequantise, sample_sets
from bruno.evaluation import likelihood
from bruno.evaluation.streams import Stream
from bruno.seeding import generator_for
from tests.evaluation.conftest import make_dataset, make_model


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
def test_agrees_with_the_model_set_by_set(process, dataset):
    model = make_model(process)
    result = likelihood(model, dataset, set_size=4, seed=3)
    drawn = sample_sets(dataset, 6, 4, generator_for(3, Stream.LIKELIHOOD_SETS, 0))
    x = dequantise(drawn.images, generator_for(3, Stream.LIKELIHOOD_NOISE)).double()
    with torch.no_grad():
        joint = model.log_prob(x)
        prior = model.prior().log_prob(x[:, 0])
        last = model.condition(x[:, :3]).log_prob(x[:, 3])
        last_alone = model.prior().log_prob(x[:, 3])
    assert result.nll.mean == pytest.approx(-float(joint.mean()) / 4)
    assert result.first.mean == pytest.approx(-float(prior.mean()))
    assert result.last.mean == pytest.approx(-float(last.mean()))
    assert result.bits_per_dim.mean == pytest.approx(result.nll.mean / (64 * math.log(2)))
    by_class = -joint / 4
    half_width = 1.959964 * float(by_class.std()) / math.sqrt(6)
    assert result.nll.half_width == pytest.approx(half_width)
    gain = last - last_alone
    assert result.conditioning_gain.mean == pytest.approx(float(gain.mean()))
    half_width = 1.959964 * float(gain.std()) / math.sqrt(6)
    assert result.conditioning_gain.half_width == pytest.approx(half_width)


def test_curve_starts_at_the_prior_and_falls_for_separable_classes(model, dataset):
    result = likelihood(model, dataset, set_size=5)
    assert (result.curve[0], result.curve[-1]) == (result.first, result.last)
    assert len(result.curve) == 5
    assert result.conditioning_gain.mean > result.conditioning_gain.half_width
    mean = sum(position.mean for position in result.curve) / 5
    assert mean == pytest.approx(result.nll.mean)


def test_classes_take_turns_and_the_seed_decides(model):
    dataset = make_dataset(classes=4, separable=False)
    first, again, other = (
        likelihood(model, dataset, set_size=3, sets=10, seed=s) for s in (1, 1, 2)
    )
    assert first == again
    assert first.nll != other.nll
    assert (first.sets, first.nll.count) == (10, 30)
    assert likelihood(model, dataset, set_size=3, sets=2).sets == 2


def test_chunks_do_not_show(model, dataset, monkeypatch):
    whole = likelihood(model, dataset, set_size=4)
    monkeypatch.setattr("bruno.chunks.MEMORY_ELEMENTS", 2 * 4 * 64)
    assert likelihood(model, dataset, set_size=4).nll.mean == pytest.approx(whole.nll.mean)


def test_json(model, dataset):
    result = likelihood(model, dataset, set_size=2)
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["dataset"] == "synthetic/test"
    assert plain["bits_per_dim"]["mean"] == pytest.approx(result.bits_per_dim.mean)
    assert len(plain["curve"]) == 2


def test_errors(model, dataset):
    with pytest.raises(UserError, match="set_size: expected 1 to 5, the images of class 'class 0'"):
        likelihood(model, dataset)
    with pytest.raises(UserError, match="set_size"):
        likelihood(model, dataset, set_size=0)
    with pytest.raises(UserError, match="sets: expected a whole number of at least 1"):
        likelihood(model, dataset, set_size=2, sets=0)
