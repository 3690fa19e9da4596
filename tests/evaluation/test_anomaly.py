import pytest
import torch

from bruno import UserError
from bruno.evaluation import few_shot_accuracy, set_anomalies
from bruno.evaluation.anomaly import _plant
from bruno.evaluation.trials import draw_trial
from bruno.seeding import generator_for
from tests.evaluation.conftest import make_dataset, make_model


def test_anomalous_patterns_are_found_and_noise_is_not():
    found = set_anomalies(make_model(), make_dataset(), set_size=5, n_anomalies=1, sets_per_class=4)
    assert found.auroc.mean > 0.95
    assert found.average_precision.mean > 0.9
    assert (found.sets, found.dataset) == (24, "synthetic/test")
    noise = make_dataset(classes=8, size=20, separable=False)
    nothing = set_anomalies(make_model(), noise, set_size=20, n_anomalies=2, sets_per_class=6)
    assert abs(nothing.auroc.mean - 0.5) < 3 * nothing.auroc.half_width


def test_figures_are_a_function_of_the_seed_and_plain():
    model, dataset = make_model("student_t"), make_dataset()
    first, again, other = (
        set_anomalies(model, dataset, set_size=4, n_anomalies=1, seed=seed) for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other
    assert first.to_dict()["auroc"]["count"] == 6


def test_anomalies_are_where_the_mask_is_and_never_first():
    dataset = make_dataset(classes=6, size=5)
    classes = torch.arange(6).repeat(10)
    images = dataset.images.unflatten(0, (6, 5)).repeat(10, 1, 1, 1, 1)
    before = images.clone()
    foreign = _plant(images, None, classes, dataset, 2, generator_for(0))
    assert (foreign.sum(1) == 2).all()
    assert not foreign[:, 0].any()
    assert torch.equal((images != before).flatten(2).any(2), foreign)
    own = {bytes(image.numpy()) for image in dataset.images}
    assert all(bytes(image.numpy()) in own for image in images[foreign])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_anomalies": 0}, "n_anomalies: expected a whole number of at least 1"),
        ({"n_anomalies": 4, "set_size": 5}, "at most set_size - 2 = 3, got 4"),
        ({"sets_per_class": 0}, "sets_per_class: expected a whole number of at least 1"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        set_anomalies(make_model(), make_dataset(), **{"set_size": 5, **arguments})


def test_one_class_is_too_few():
    with pytest.raises(UserError, match="has one class"):
        set_anomalies(make_model(), make_dataset(classes=1), set_size=5)


def test_contaminants_replace_support_images_and_nothing_else():
    dataset = make_dataset(classes=6, size=5)
    plain = draw_trial(dataset, 3, 3, 4, generator_for(1))
    mixed = draw_trial(dataset, 3, 3, 4, generator_for(1), contaminants=1)
    assert torch.equal(plain.query, mixed.query)
    assert torch.equal(plain.support[..., 1:], mixed.support[..., 1:])
    assert (dataset.labels[mixed.support[..., 0] % len(dataset)] != mixed.classes).all()


def test_contaminants_cost_accuracy_and_some_support_must_be_left():
    model, dataset = make_model(), make_dataset()
    arguments = {"way": 5, "shot": 3, "rotations": False, "trials": 10}
    plain = few_shot_accuracy(model, dataset, **arguments)
    mixed = few_shot_accuracy(model, dataset, contaminants=2, **arguments)
    assert (plain.contaminants, mixed.contaminants) == (0, 2)
    assert mixed.cross_entropy.mean > plain.cross_entropy.mean
    with pytest.raises(UserError, match="contaminants: expected 0 to 2, got 3"):
        few_shot_accuracy(model, dataset, contaminants=3, **arguments)
