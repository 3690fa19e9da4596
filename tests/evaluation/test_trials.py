import dataclasses

import pytest
import torch

from bruno import UserError
from bruno.evaluation.trials import check_trials, draw_trial
from bruno.seeding import generator_for
from tests.evaluation.conftest import make_dataset


@pytest.mark.parametrize("turns", [1, 4])
def test_who_meets_whom(turns):
    dataset = make_dataset(classes=6, size=5)
    dataset = dataclasses.replace(  # unequal classes: the first loses two images
        dataset, images=dataset.images[2:], labels=dataset.labels[2:]
    )
    for seed in range(20):
        trial = draw_trial(dataset, way=4, shot=2, turns=turns, generator=generator_for(seed))
        assert trial.query.shape == (6 * turns,)
        assert trial.support.shape == (6 * turns, 4, 2)
        query_class = dataset.labels[trial.query % len(dataset)]
        query_turn = trial.query // len(dataset)
        queried = set(zip(query_class.tolist(), query_turn.tolist(), strict=True))
        assert len(queried) == 6 * turns  # every rotated class exactly once
        support_class = dataset.labels[trial.support % len(dataset)]
        support_turn = trial.support // len(dataset)
        # Every set is of one class in one rotation, of distinct images.
        assert (support_class == trial.classes[..., None]).all()
        assert (support_turn == support_turn[..., :1]).all()
        assert (trial.support[..., 0] != trial.support[..., 1]).all()
        # Way 0 is the query's own rotated class, without the query.
        assert (support_class[:, 0, 0] == query_class).all()
        assert (support_turn[:, 0, 0] == query_turn).all()
        assert (trial.support[:, 0] != trial.query[:, None]).all()
        # Distractors: distinct characters, never the query's, whatever the rotation.
        for row in trial.classes.tolist():
            assert len(set(row)) == 4
    if turns == 4:
        assert (support_turn[:, 1:, 0] != query_turn[:, None]).any()


def test_every_distractor_and_image_is_drawn():
    dataset = make_dataset(classes=4, size=3)
    rows = torch.cat(
        [draw_trial(dataset, 2, 1, 4, generator_for(seed)).support.flatten() for seed in range(60)]
    )
    assert len(rows.unique()) == 4 * 12


def test_errors_name_what_is_wrong():
    dataset = make_dataset(classes=3, size=2)
    with pytest.raises(UserError, match="way: synthetic/test has 3 classes, too few for 4-way"):
        check_trials(dataset, 4, 1, 1)
    with pytest.raises(UserError, match=r"shot: class 'class 0' .* has 2 images"):
        check_trials(dataset, 3, 2, 1)
    for numbers, name in (((1, 1, 1), "way"), ((2, 0, 1), "shot"), ((2, 1, 0), "trials")):
        with pytest.raises(UserError, match=f"{name}: expected a whole number of at least"):
            check_trials(dataset, *numbers)
