"""Laws that every few-shot system keeps, and a tiny task that each of them learns."""

import pytest
import torch

from bruno import UserError
from bruno.baselines import meta_training
from bruno.baselines.interface import flatten_episode
from bruno.baselines.meta_training import MetaTrainingConfig, build_system, meta_train
from bruno.baselines.registry import SYSTEMS, chosen_systems
from bruno.data.sets import sample_episode
from bruno.seeding import generator_for
from tests.baselines.squares import squares

STEPS = dict.fromkeys(SYSTEMS, 30) | {
    "relation": 60,
    "bruno-generative": 40,
    "maml": 6,
    "maml-first-order": 6,
    "lstm": 12,
    "mann": 40,
    "neural-process": 100,
}
LEARNING = [name for name in SYSTEMS if name != "mann"]  # thousands of steps, see its own test


@pytest.fixture(scope="module")
def learnt():
    """Every system after a short meta-training on the tiny task, made when it is first used."""
    systems = {}

    def system(name):
        if name not in systems:
            config = MetaTrainingConfig(
                cpu_minutes=None, steps=STEPS[name], validations=2, validation_episodes=2
            )
            built = build_system(SYSTEMS[name].load(), squares("train"), 0)
            systems[name] = meta_train(built, squares("train"), squares("val"), config)
        return systems[name]

    return system


def task(shot=3, queries=4):
    episode = sample_episode(squares("test"), 4, shot, queries, generator_for(3))
    return flatten_episode(episode)


@pytest.mark.parametrize("name", LEARNING)
def test_it_learns_and_predicts_normalised_probabilities(learnt, name):
    support, labels, query, truth = task()
    log_prob = learnt(name).adapt(support, labels).predict_log_prob(query)
    assert log_prob.shape == (16, 4)
    torch.testing.assert_close(
        log_prob.exp().sum(-1), torch.ones(16), atol=1e-5, rtol=0, check_dtype=False
    )
    assert (log_prob.argmax(-1) == truth).float().mean() >= 0.6  # chance is 0.25


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_gradient_reaches_every_parameter(name):
    dataset = squares("train")
    system = build_system(SYSTEMS[name].load(), dataset, 0).train()
    optimised = {id(p) for group in system.optimiser().param_groups for p in group["params"]}
    reached = set()
    for step in range(2):
        episode = system.draw(dataset, step, generator_for(0, step))
        system.loss(episode, generator_for(1, step)).backward()
        for key, parameter in system.named_parameters():
            if parameter.grad is not None and bool(parameter.grad.abs().sum() > 0):
                reached.add(key)
        # Layers that start at zero pass on no gradient before the first step.
        with torch.no_grad():
            for parameter in system.parameters():
                if parameter.grad is not None:
                    parameter -= 1e-2 * parameter.grad.sign()
    expected = {key for key, p in system.named_parameters() if id(p) in optimised}
    assert expected - reached == set()


@pytest.mark.parametrize("name", SYSTEMS)
def test_queries_do_not_influence_each_other(learnt, name):
    support, labels, query, _ = task()
    predictor = learnt(name).adapt(support, labels)
    together = predictor.predict_log_prob(query)
    alone = torch.cat([predictor.predict_log_prob(one) for one in query.split(1)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_order_of_the_examples_matters_only_where_it_is_said_to(learnt, name):
    support, labels, query, _ = task()
    order = torch.randperm(len(labels), generator=generator_for(0))
    system = learnt(name)
    first = system.adapt(support, labels).predict_log_prob(query)
    second = system.adapt(support[order], labels[order]).predict_log_prob(query)
    spread = float((first - second).detach().abs().max())
    # A memory network that has hardly learnt depends on the order a little, others on rounding.
    assert spread < 1e-2 if system.abilities.order_invariant else spread > 1e-3


@pytest.mark.parametrize("name", SYSTEMS)
def test_examples_are_added_and_removed_as_if_seen_from_the_start_or_never(learnt, name):
    system = learnt(name)
    support, labels, query, _ = task(shot=3)
    first = torch.arange(len(labels)) < 8  # two of the three of each class
    of_all, of_first = system.adapt(support, labels), system.adapt(support[first], labels[first])
    if system.abilities.streaming:
        grown = of_first.observe(support[~first], labels[~first])
        if system.abilities.order_invariant:
            expected = of_all.predict_log_prob(query)
            torch.testing.assert_close(
                grown.predict_log_prob(query), expected, atol=1e-3, rtol=1e-3
            )
        else:
            assert (grown.predict_log_prob(query) != of_first.predict_log_prob(query)).any()
    else:
        with pytest.raises(UserError, match=r"observe: .* cannot add examples"):
            of_first.observe(support[~first], labels[~first])
    if system.abilities.forgetting:
        shrunk = of_all.forget(support[~first], labels[~first])
        expected = of_first.predict_log_prob(query)
        torch.testing.assert_close(shrunk.predict_log_prob(query), expected, atol=1e-3, rtol=1e-3)
    else:
        with pytest.raises(UserError, match=r"forget: .* cannot remove examples"):
            of_all.forget(support[~first], labels[~first])


@pytest.mark.parametrize("name", SYSTEMS)
def test_more_classes_than_in_training(learnt, name):
    support, _, query, _ = task()
    far = torch.arange(40).repeat(2)
    images = support[torch.arange(80) % len(support)]
    system = learnt(name)
    if system.abilities.any_way:
        assert system.adapt(images, far).predict_log_prob(query).shape == (16, 40)
    else:
        with pytest.raises(UserError, match="labels: this system was trained for up to"):
            system.adapt(images, far)


@pytest.mark.parametrize("name", SYSTEMS)
def test_wrong_labels_are_refused(learnt, name):
    support, labels, _, _ = task()
    with pytest.raises(UserError, match=r"labels: expected int64 \(12,\)"):
        learnt(name).adapt(support, labels[:-1])
    with pytest.raises(UserError, match=r"labels: expected 0..K-1, each at least once"):
        learnt(name).adapt(support, labels + 1)
    if learnt(name).abilities.streaming:
        with pytest.raises(UserError, match=r"labels: expected 0..3, the classes adapted to, got"):
            learnt(name).adapt(support, labels).observe(support, labels + 1)


def test_an_unknown_system_is_refused_with_a_list():
    assert chosen_systems(["prototypical", "bruno", "bruno"]) == ["prototypical", "bruno"]
    assert chosen_systems(["all"]) == list(SYSTEMS)
    with pytest.raises(UserError, match=r"systems: expected one of all, classifier.* got 'prot'"):
        chosen_systems(["prot"])


def test_a_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    dataset, kind = squares("train"), SYSTEMS["prototypical"].load()
    file = tmp_path / "state"

    class StoppedError(Exception):
        pass

    def stop(row, _share):
        if row["step"] == 8:
            raise StoppedError

    config = MetaTrainingConfig(cpu_minutes=None, steps=12, validations=6, validation_episodes=1)
    whole = meta_train(build_system(kind, dataset, 0), dataset, squares("val"), config)
    halted = build_system(kind, dataset, 0)
    with pytest.raises(StoppedError):
        meta_train(halted, dataset, squares("val"), config, on_row=stop, state_file=file)
    rows = []
    resumed = meta_train(
        build_system(kind, dataset, 0),
        dataset,
        squares("val"),
        config,
        on_row=lambda row, _: rows.append(row["step"]),
        state_file=file,
    )
    assert rows == [8, 10, 12]
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize(("stopped_at", "validated_after"), [(2, [4]), (4, [])])
def test_a_training_that_was_stopped_at_a_mark_repeats_no_training(
    tmp_path, stopped_at, validated_after
):
    dataset, kind = squares("train"), SYSTEMS["prototypical"].load()
    config = MetaTrainingConfig(cpu_minutes=None, steps=4, validations=2, validation_episodes=1)
    rows, measured = [], []

    class StoppedError(Exception):
        pass

    def stop(_system, _minutes, step):
        if step == stopped_at:
            raise StoppedError

    def train(on_mark):
        meta_train(
            build_system(kind, dataset, 0),
            dataset,
            squares("val"),
            config,
            marks=(0.5, 1.0),
            on_mark=on_mark,
            on_row=lambda row, _: rows.append(row["step"]),
            state_file=tmp_path / "state",
        )

    with pytest.raises(StoppedError):
        train(stop)
    rows.clear()
    train(lambda _system, _minutes, step: measured.append(step))
    assert rows == validated_after
    assert measured == [stopped_at, *validated_after]


def test_keeping_the_state_costs_no_training_time(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(meta_training.time, "process_time", lambda: clock[0])

    def pass_time(seconds):
        clock[0] += seconds

    monkeypatch.setattr(meta_training, "write_atomically", lambda *_: pass_time(100))
    dataset, rows = squares("train"), []
    system = build_system(SYSTEMS["prototypical"].load(), dataset, 0)
    monkeypatch.setattr(system, "after_step", lambda _: pass_time(1))
    config = MetaTrainingConfig(cpu_minutes=None, steps=4, validations=2, validation_episodes=1)
    meta_train(
        system,
        dataset,
        squares("val"),
        config,
        on_row=lambda row, _: rows.append(row["cpu_seconds"]),
        state_file=tmp_path / "state",
    )
    assert rows == [2.0, 4.0]


def test_the_test_at_a_mark_is_of_the_best_weights_and_costs_no_training_time():
    dataset, marks = squares("train"), []

    def measure(system, minutes, step):
        marks.append((step, minutes, system.training))

    config = MetaTrainingConfig(cpu_minutes=0.03, validations=2, validation_episodes=1)
    kind = SYSTEMS["prototypical"].load()
    system = build_system(kind, dataset, 0)
    meta_train(system, dataset, squares("val"), config, marks=(0.5, 1.0), on_mark=measure)
    assert len(marks) == 2
    assert marks[0][0] < marks[1][0]
    assert not any(training for _, _, training in marks)
    assert 0.03 <= marks[1][1] < 0.1


def test_a_length_is_needed():
    with pytest.raises(UserError, match="cpu_minutes: expected a length"):
        MetaTrainingConfig(cpu_minutes=None)
    with pytest.raises(UserError, match="cpu_minutes: expected a positive number, got 0"):
        MetaTrainingConfig(cpu_minutes=0)
