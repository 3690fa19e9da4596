import dataclasses
import json
import math

import pytest
import torch

from bruno import (
    Bruno,
    Evidence,
    ExchangeableGaussian,
    ExchangeableStudentT,
    RealNVP,
    UserError,
)
from bruno.data.sets import dequantise
from bruno.evaluation import classify, encode_rotations, few_shot_accuracy
from bruno.evaluation.scoring import is_correct, trial_scores
from bruno.evaluation.streams import Stream
from bruno.evaluation.trials import draw_trial
from bruno.seeding import generator_for
from tests.evaluation.conftest import make_dataset, make_model


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
def test_classify_is_bayes_rule_over_the_predictives(process, dataset):
    model = make_model(process)
    x = dequantise(dataset.images, generator_for(0)).double()
    support, query = x[:8], x[8:20]
    labels = ["b", "a", "b", "c", "a", "b", "c", "c"]
    log_prob, classes = classify(model, support, labels, query)
    assert classes == ["a", "b", "c"]
    with torch.no_grad():
        densities = [
            model.condition(support[[label == name for label in labels]]).log_prob(query)
            for name in classes
        ]
    torch.testing.assert_close(log_prob, torch.stack(densities, 1).log_softmax(1))
    assert log_prob.dtype == torch.float64
    torch.testing.assert_close(log_prob.exp().sum(1), torch.ones(12, dtype=torch.float64))


def test_classify_takes_bytes_tensors_and_no_queries(model, dataset):
    labels = dataset.labels + 10
    log_prob, classes = classify(model, dataset.images, labels, dataset.images)
    assert classes == [10, 11, 12, 13, 14, 15]
    assert (log_prob.argmax(1) == dataset.labels).all()
    middle = dataset.images.double() + 0.5
    torch.testing.assert_close(log_prob, classify(model, middle, labels.numpy(), middle)[0])
    assert classify(model, middle, labels, middle[:0])[0].shape == (0, 6)


def test_classify_with_context(dataset):
    model = make_model(context_dim=1)
    context = torch.linspace(-1, 1, 30).unsqueeze(1)
    images = dataset.images
    log_prob, _ = classify(
        model, images, dataset.labels, images, support_context=context, query_context=context
    )
    assert log_prob.shape == (30, 6)
    with pytest.raises(UserError, match="context: this model needs one"):
        classify(model, images, dataset.labels, images)


def test_classify_errors(model, dataset):
    images = dataset.images
    with pytest.raises(UserError, match="support: expected at least one"):
        classify(model, images[:0], [], images)
    with pytest.raises(UserError, match="support_labels: expected 30 labels, got 2"):
        classify(model, images, [1, 2], images)
    with pytest.raises(UserError, match="query: expected a tensor of shape"):
        classify(model, images, dataset.labels, images[0])
    with pytest.raises(UserError, match="sortable"):
        classify(model, images[:2], [1, "a"], images)


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
@pytest.mark.parametrize("shot", [1, 3])
def test_scores_are_the_log_densities_of_the_encodings(process, shot, dataset):
    model = make_model(process)
    encoded = encode_rotations(model, dataset, rotations=True)
    z = encoded.flatten(0, 1)
    trial = draw_trial(dataset, 3, shot, 4, generator_for(0))
    scores = trial_scores(model.process, z, trial)

    for row in (0, 11, 23):
        expected = model.process.log_prob_given(
            z[trial.query[row]].unsqueeze(0), Evidence.of(z[trial.support[row]])
        )
        torch.testing.assert_close(scores[row], expected[0].detach())


def test_chunks_do_not_show_and_the_number_of_threads_is_kept(model, dataset, monkeypatch):
    z = encode_rotations(model, dataset, rotations=True).flatten(0, 1)
    trial = draw_trial(dataset, 3, 2, 4, generator_for(0))
    whole, threads = trial_scores(model.process, z, trial), torch.get_num_threads()
    monkeypatch.setattr("bruno.chunks.CACHE_ELEMENTS", 5 * 3 * 64)
    torch.testing.assert_close(trial_scores(model.process, z, trial), whole)
    assert torch.get_num_threads() == threads


def test_accuracy_is_the_share_of_right_decisions_over_all_trials(model):
    dataset = make_dataset(separable=False)
    encoded = encode_rotations(model, dataset, rotations=True)
    result = few_shot_accuracy(
        model, dataset, way=3, shot=2, trials=4, seed=9, rotations=True, encoded=encoded
    )
    scores = torch.cat(
        [
            trial_scores(
                model.process,
                encoded.flatten(0, 1),
                draw_trial(dataset, 3, 2, 4, generator_for(9, Stream.FEW_SHOT_TRIALS, index)),
            )
            for index in range(4)
        ]
    )
    right = (scores.argmax(1) == 0).double()
    assert result.decisions == 4 * 24
    assert result.accuracy.mean == pytest.approx(100 * float(right.mean()))
    by_character = right.view(4, 4, 6).mean((0, 1))
    half_width = 1.959964 * 100 * float(by_character.std()) / math.sqrt(6)
    assert result.accuracy.half_width == pytest.approx(half_width)
    expected = torch.nn.functional.cross_entropy(scores, torch.zeros(96, dtype=torch.int64))
    assert result.cross_entropy.mean == pytest.approx(float(expected))


def test_averaged_rotations_average_the_posteriors_of_turned_decisions(model):
    dataset = make_dataset(separable=False)
    encoded = encode_rotations(model, dataset, rotations=True)
    result = few_shot_accuracy(
        model, dataset, way=3, shot=2, trials=1, seed=9, rotations=False, average_rotations=True
    )
    trial = draw_trial(dataset, 3, 2, 1, generator_for(9, Stream.FEW_SHOT_TRIALS, 0))
    posterior = torch.stack(
        [trial_scores(model.process, view, trial).softmax(-1) for view in encoded]
    ).mean(0)
    assert result.average_rotations
    assert result.decisions == 6
    assert result.accuracy.mean == pytest.approx(
        100 * float((posterior.argmax(1) == 0).double().mean())
    )
    assert result.cross_entropy.mean == pytest.approx(float(-posterior[:, 0].log().mean()))


def test_classes_are_compared_by_the_code_alone():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        flow = RealNVP((1, 8, 8), preset="sums", dense_units=4, pixel_units=4)
    correlation = torch.zeros(64)
    correlation[: flow.code_dim] = 0.5
    images = torch.randint(0, 256, (6, 1, 8, 8), generator=generator_for(1)).byte()
    labels = [0, 0, 1, 1]
    for process, informed in ((ExchangeableGaussian(64), 16), (ExchangeableStudentT(64), 64)):
        process.set_correlation(correlation)
        model = Bruno(flow, process)
        code = model.encode_code(images)
        assert code.shape == (6, informed)
        assert torch.equal(code, model.encode(images)[:, :informed])
        log_p, _ = classify(model, images[:4], labels, images[4:])
        whole = [
            model.condition(images[part]).log_prob(images[4:])
            for part in (slice(0, 2), slice(2, 4))
        ]
        torch.testing.assert_close(log_p, torch.stack(whole, 1).log_softmax(1))
    assert model.encode_code(images[:0]).shape == (0, 64)


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
def test_separable_classes_are_always_told_apart(process, dataset):
    result = few_shot_accuracy(
        make_model(process), dataset, way=5, shot=1, trials=5, rotations=True
    )
    assert result.accuracy.mean == 100
    assert result.decisions == 5 * 24


def test_noise_is_told_apart_at_chance(model):
    dataset = make_dataset(classes=40, separable=False)
    result = few_shot_accuracy(model, dataset, way=4, shot=1, trials=10, rotations=True)
    assert abs(result.accuracy.mean - 25) < 2 * result.accuracy.half_width
    assert result.accuracy.half_width < 5


def test_ties_are_wrong(model, dataset):
    same = torch.zeros(1, 30, 64)
    result = few_shot_accuracy(
        model, dataset, way=2, shot=1, trials=2, rotations=False, encoded=same
    )
    assert result.accuracy.mean == 0
    assert result.cross_entropy.mean == pytest.approx(math.log(2))


@pytest.mark.parametrize("process", ["gaussian", "student_t"])
def test_scores_that_are_not_finite_are_wrong(process, dataset):
    model = make_model(process)
    z = encode_rotations(model, dataset, rotations=False).clone()
    z[0, :5] = math.nan  # class 0 is always wrong, as query and as distractor
    result = few_shot_accuracy(
        model,
        dataset,
        way=6,
        shot=1,
        trials=2,
        rotations=False,
        encoded=z,
    )
    assert result.accuracy.mean == 0
    assert json.dumps(result.to_dict(), allow_nan=False)


def test_decisions():
    inf, nan = math.inf, math.nan
    scores = torch.tensor([[2, 1, 0], [1, 1, 0], [inf, 1, 0], [nan, 1, 0], [2, nan, 0], [1, 2, 0]])
    assert is_correct(scores).tolist() == [True, False, False, False, False, False]


def test_the_seed_decides(model):
    dataset = make_dataset(classes=10, separable=False)
    settings = {"way": 4, "shot": 2, "trials": 3, "rotations": True}
    first, again, other = (
        few_shot_accuracy(model, dataset, **settings, seed=seed) for seed in (5, 5, 6)
    )
    assert first == again
    assert first.cross_entropy != other.cross_entropy


def test_progress_and_errors(model, dataset):
    reports = []
    few_shot_accuracy(
        model,
        dataset,
        way=2,
        shot=1,
        trials=3,
        rotations=False,
        progress=lambda *report: reports.append(report),
    )
    assert reports == [("encoding", 30, 30), *[("2-way 1-shot", i, 3) for i in (1, 2, 3)]]
    with pytest.raises(UserError, match="too few for 7-way"):
        few_shot_accuracy(model, dataset, way=7, shot=1, rotations=False)
    encoded = encode_rotations(model, dataset, rotations=False)
    with pytest.raises(UserError, match=r"encoded: expected shape \(4, 30, 64\)"):
        few_shot_accuracy(model, dataset, way=2, shot=1, rotations=True, encoded=encoded)
    oblong = dataclasses.replace(dataset, images=dataset.images[..., :6])
    with pytest.raises(UserError, match="square"):
        few_shot_accuracy(model, oblong, way=2, shot=1, rotations=True)
