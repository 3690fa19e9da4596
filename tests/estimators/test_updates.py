"""Updates of an estimator happen whole or not at all, and alone."""

import copy
import pickle
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import bruno.estimators
from bruno import BrunoClassifier, BrunoDensity, BrunoOutlierDetector, UserError
from tests.estimators.iris import X, Y, fitted

PACKAGE = str(Path(bruno.estimators.__file__).parent)


def at_line(line, work, happens):
    """Return the result of some work, in which something happens at one line.

    Of the lines of the estimators' code, counted as they run; and whether there are as many.
    """
    left = line

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line":
            left -= 1
            if left == -1:
                happens()
        return trace

    sys.settrace(trace)
    try:
        return work(), left < 0
    finally:
        sys.settrace(None)
        # A trace may raise where Python itself never does, before a block is left.
        torch.set_grad_enabled(True)


def interrupt():
    raise KeyboardInterrupt


def interrupted(work, line):
    """Whether Ctrl-C at this line reached any."""
    try:
        at_line(line, work, interrupt)
    except KeyboardInterrupt:
        return True
    return False


def start():
    return fitted(flow="diagonal", temperature=1.0).partial_fit(X[:2] + 1, [7, 8])


def one_more(estimator):
    estimator.partial_fit(X[:1], Y[:1])


def a_new_class(estimator):
    estimator.partial_fit(X[:1], np.array([5]))


def several_classes(estimator):
    estimator.partial_fit(X[::50], [5, 6, 0], classes=[9])


def less_and_less(estimator):
    estimator.forget(np.concatenate([X[:1], X[:2] + 1]), [0, 7, 8])


@pytest.mark.parametrize("work", [one_more, a_new_class, several_classes, less_and_less])
def test_an_update_that_is_interrupted_anywhere_is_made_or_not(work):
    before, after = start(), start()
    work(after)
    outcomes = set()
    for line in range(10_000):
        classifier = copy.deepcopy(before)
        stopped = interrupted(lambda classifier=classifier: work(classifier), line)
        found = classifier.predict_proba(X)
        same = [
            expected.classes_.tolist() == classifier.classes_.tolist()
            and np.array_equal(expected.predict_proba(X), found)
            for expected in (before, after)
        ]
        assert any(same), line
        outcomes.add((stopped, same[1]))
        work(copy.deepcopy(classifier)) if same[0] else None
        if not stopped:
            break
    assert outcomes >= {(True, False), (False, True)}


def probabilities(classifier):
    return classifier.predict_proba(X)


def predictions(classifier):
    return classifier.predict(X)


def pickled_and_loaded(classifier):
    return pickle.loads(pickle.dumps(classifier)).predict_proba(X)  # noqa: S301


def saved_and_loaded(classifier):
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(folder)
        return BrunoClassifier.load(folder).predict_proba(X)


@pytest.mark.parametrize(
    ("read", "step"),
    [(probabilities, 1), (predictions, 1), (pickled_and_loaded, 1), (saved_and_loaded, 7)],
)
@pytest.mark.parametrize("work", [several_classes, less_and_less])
def test_what_is_read_is_of_one_time_wherever_an_update_comes_between(read, step, work):
    before, after = start(), start()
    work(after)
    expected = [read(each) for each in (before, after)]
    for line in range(0, 10_000, step):
        classifier = copy.deepcopy(before)
        found, happened = at_line(
            line,
            lambda classifier=classifier: read(classifier),
            lambda classifier=classifier: work(classifier),
        )
        assert any(np.array_equal(found, each) for each in expected), line
        if not happened:
            break
    assert line > 10


@pytest.mark.parametrize("line", [0, 3, 30, 100, 200])
def test_a_fit_that_is_interrupted_changes_nothing(line):
    classifier = fitted(temperature=1.0)
    expected = classifier.predict_proba(X)
    assert interrupted(lambda: classifier.fit(X[:, :2], Y + 3), line)
    np.testing.assert_array_equal(classifier.predict_proba(X), expected)
    never = BrunoClassifier(temperature=1.0)
    assert interrupted(lambda: never.partial_fit(X, Y, classes=[5]), line)
    assert set(vars(never)) - {"_lock"} == set(never.get_params())


@pytest.mark.parametrize("kind", [BrunoClassifier, BrunoDensity, BrunoOutlierDetector])
@pytest.mark.parametrize("flow", ["diagonal", "affine", "dense"])
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_what_is_done_in_inference_mode_can_be_gone_on_with(kind, flow, mode):
    model = kind(flow=flow, steps=2).fit(X, Y).model_
    parameters = {"steps": 2} | ({"temperature": 1.0} if kind is BrunoClassifier else {})
    one_class = () if kind is not BrunoClassifier else ([9],)
    for start in ({"flow": flow}, {"model": model}):
        estimator = kind(random_state=0, **start, **parameters)
        expected = copy.deepcopy(estimator).fit(X, Y)
        expected.partial_fit(X[:1] + 1, *one_class).partial_fit(X[:1], *one_class)
        with mode():
            estimator.fit(X, Y)
            estimator.partial_fit(X[:1] + 1, *one_class).score_samples(X)
        estimator.partial_fit(X[:1], *one_class)
        with mode():
            estimator.predict(X) if hasattr(estimator, "predict") else None
            estimator.partial_fit(X[:1], *one_class).forget(X[:1], *one_class)
        np.testing.assert_allclose(estimator.score_samples(X), expected.score_samples(X), rtol=1e-9)


def together(*works):
    """Run all in threads that are switched between as often as can be, and raise what they do."""
    errors = []

    def caught(work):
        try:
            work()
        except BaseException as error:
            errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    threads = [threading.Thread(target=caught, args=(work,)) for work in works]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    for error in errors:
        raise error


@pytest.mark.parametrize("estimator", [BrunoClassifier(temperature=1.0), BrunoDensity()])
def test_writers_exclude_one_another(estimator):
    rows = np.random.default_rng(0).normal(size=(400, 4)) + X.mean(0)
    labels = (np.zeros(1, int),) if isinstance(estimator, BrunoClassifier) else ()
    estimator.fit(X, Y)
    expected = copy.deepcopy(estimator)
    for row in rows[:200]:
        expected.partial_fit(row[None], *labels)
    estimator.partial_fit(rows[200:], *(np.repeat(part, 200) for part in labels))

    def learn(part):
        for row in part:
            estimator.partial_fit(row[None], *labels)

    def forget(part):
        for row in part:
            estimator.forget(row[None], *labels)

    together(
        *(lambda part=part: learn(part) for part in rows[:200].reshape(4, 50, 4)),
        lambda: forget(rows[200:]),
    )
    assert torch.equal(estimator.evidence_.count, expected.evidence_.count)
    torch.testing.assert_close(estimator.evidence_.mean, expected.evidence_.mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(
        estimator.evidence_.scatter, expected.evidence_.scatter, rtol=1e-9, atol=1e-9
    )


def test_the_first_fits_of_two_threads_lose_nothing():
    classifier = BrunoClassifier(flow="diagonal", temperature=1.0)
    together(*(lambda k=k: classifier.partial_fit(X[k::4], Y[k::4]) for k in range(4)))
    assert classifier.evidence_.count.tolist() == [50, 50, 50]


def test_readers_beside_a_writer_find_all_of_an_update():
    classifier = fitted(flow="diagonal", temperature=1.0, unknown_prior=0.1)
    finished = threading.Event()

    def write():
        try:
            for k in range(60):
                # Two classes come together, and go together.
                classifier.partial_fit(X[:2] + k, [3 + 2 * k, 4 + 2 * k])
                if k % 3 == 2:
                    classifier.forget(X[:2] + k, [3 + 2 * k, 4 + 2 * k])
                classifier.partial_fit(X[k : k + 1], Y[k : k + 1])
        finally:
            finished.set()

    def read():
        while not finished.is_set():
            columns = classifier.predict_proba(X[:20])
            assert columns.shape[1] % 2 == 0  # with the one for none of them
            np.testing.assert_allclose(columns.sum(1), 1)
            assert len(classifier.predict(X[:20])) == 20
            assert len(classifier.classes_) % 2 == 1
            pickle.dumps(classifier)

    together(write, read, read)
    assert len(classifier.classes_) == 3 + 2 * 40


def test_a_fit_beside_readers_is_seen_whole():
    classifier = BrunoClassifier(flow="diagonal", temperature=1.0).fit(X, Y)
    other = BrunoClassifier(flow="diagonal", temperature=1.0).fit(X * 1000, Y + 3)
    expected = [each.predict_log_proba(X) for each in (classifier, other)]
    finished = threading.Event()

    def write():
        try:
            for _ in range(5):
                classifier.fit(X * 1000, Y + 3)
                classifier.fit(X, Y)
        finally:
            finished.set()

    def read():
        while not finished.is_set():
            found = classifier.predict_log_proba(X)
            assert any(np.array_equal(found, each) for each in expected)

    together(write, read)


def pickled(estimator):
    return pickle.loads(pickle.dumps(estimator))  # noqa: S301


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickled])
@pytest.mark.parametrize("estimator", [BrunoClassifier(temperature=1.0), BrunoDensity()])
def test_copies_do_not_change_each_other(copied, estimator):
    labels = ([0, 9],) if isinstance(estimator, BrunoClassifier) else ()
    estimator = copy.deepcopy(estimator).fit(X, Y)
    expected = estimator.score_samples(X), estimator.evidence_.count.tolist()
    other = copied(estimator).partial_fit(X[:2], *labels)
    np.testing.assert_array_equal(estimator.score_samples(X), expected[0])
    assert estimator.evidence_.count.tolist() == expected[1]
    again = other.evidence_.count.tolist()
    estimator.forget(X[:1], *(part[:1] for part in labels))
    assert other.evidence_.count.tolist() == again


def test_what_was_handed_out_is_a_copy():
    classifier = fitted(temperature=1.0)
    expected = classifier.predict_proba(X)
    classifier.classes_[:] = 9
    classifier.predict(X)[:] = 9
    evidence = classifier.evidence_
    for part in (evidence.count, evidence.mean, evidence.scatter):
        part.zero_()
    np.testing.assert_array_equal(classifier.predict_proba(X), expected)
    assert classifier.classes_.tolist() == [0, 1, 2]


def test_an_update_without_memory_changes_nothing(monkeypatch):
    classifier = fitted(temperature=1.0)
    expected = classifier.predict_proba(X)

    def fail(*_):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr("torch.addcmul", fail)
        patch.setattr("bruno.evidence.Evidence.__add__", fail)
        for labels in ([0], [0, 5]):
            with pytest.raises(MemoryError):
                classifier.partial_fit(X[: len(labels)], labels)
    np.testing.assert_array_equal(classifier.predict_proba(X), expected)
    with pytest.raises(UserError, match="expected known classes, got 5"):
        classifier.forget(X[:1], [5])
