import copy

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from bruno import BrunoClassifier, ExchangeableGaussian
from bruno.estimators.calibration import choose_offset, novelty
from bruno.seeding import generator_for


@pytest.mark.parametrize(("once", "groups"), [(False, 5), (True, 3)])
def test_classes_are_left_out_once_each_and_examples_of_the_others_held_out(once, groups):
    classes = torch.arange(7).repeat(4)
    calls = []

    def score(learn, scored):
        calls.append((learn, scored))
        known = len(classes[learn].unique())
        return torch.zeros(len(scored), known), torch.ones(len(scored))

    of_known, of_new = novelty(score, classes, 2.0, generator_for(0), once=once)
    assert len(calls) == 2 * groups
    left_out = []
    for (learn, held_out), (same, new) in zip(calls[::2], calls[1::2], strict=True):
        assert torch.equal(learn, same)
        assert set(classes[held_out].tolist()) == set(classes[learn].tolist())
        assert not set(held_out.tolist()) & set(learn.tolist())
        assert not set(classes[new].tolist()) & set(classes[learn].tolist())
        left_out += new.tolist()
    assert sorted(left_out) == list(range(28))
    # One class in K has 1/K of the prior; log-ratios are divided by the temperature.
    torch.testing.assert_close(of_new, torch.full((28,), 0.5, dtype=torch.float64))
    assert len(of_known) == sum(len(held_out) for _, held_out in calls[::2])


@pytest.mark.parametrize(
    "classes", [torch.arange(2).repeat(9), torch.tensor([0, 0, 0, 1, 1, 1, 2, 2])]
)
def test_few_classes_or_examples_say_nothing_of_new_ones(classes):
    def score(learn, scored):
        raise AssertionError

    of_known, of_new = novelty(score, classes, 1.0, generator_for(0))
    assert len(of_known) == len(of_new) == 0
    assert choose_offset(of_known, of_new) == 0


def test_an_offset_separates_what_can_be_separated():
    noise = torch.randn(2, 200, dtype=torch.float64, generator=generator_for(1))
    for middle in (-60.0, 0.0, 25.0):
        offset = choose_offset(middle - 4 + noise[0], middle + 4 + noise[1])
        assert abs(offset + middle) < 1
    # What is told apart anyway needs none.
    assert abs(choose_offset(noise[0] - 50, noise[1] + 50)) < 1e-3


def test_what_a_model_says_wrongly_of_new_classes_is_mended():
    x, y = load_digits(return_X_y=True)
    learn, known = np.arange(len(y)) % 4 == 0, y < 7
    model = copy.deepcopy(BrunoClassifier(random_state=0).fit(x[learn], y[learn]).model_)
    process = model.process
    model.process = ExchangeableGaussian.from_parameters(
        variance=process.noise + 30 * process.covariance, covariance=30 * process.covariance
    )
    parameters = {"model": model, "reject": 0.3, "random_state": 0}
    plain = BrunoClassifier(temperature=1.0, **parameters).fit(x[learn & known], y[learn & known])
    mended = BrunoClassifier(**parameters).fit(x[learn & known], y[learn & known])
    assert plain.unknown_offset_ == 0
    assert mended.unknown_offset_ > 20
    rejected = mended.predict(x[~learn]) == mended.unknown_label_
    assert (plain.predict(x[~learn & ~known]) == -1).mean() < 0.1
    assert rejected[~known[~learn]].mean() > 0.6
    assert rejected[known[~learn]].mean() < 0.2
    np.testing.assert_array_equal(plain.score_samples(x), mended.score_samples(x))


def test_saved_and_copied_the_offset_stays(tmp_path):
    x, y = load_digits(n_class=5, return_X_y=True)
    classifier = BrunoClassifier(reject=0.2, random_state=0).fit(x[::9], y[::9])
    assert classifier.unknown_offset_ != 0
    classifier.save(tmp_path)
    loaded = BrunoClassifier.load(tmp_path)
    assert loaded.unknown_offset_ == classifier.unknown_offset_
    np.testing.assert_allclose(loaded.predict_proba(x), classifier.predict_proba(x))
    assert BrunoClassifier(random_state=0).fit(x[::9], y[::9]).unknown_offset_ == 0
