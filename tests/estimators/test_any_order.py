"""A classifier after any sequence of calls is what its examples alone make of it."""

import copy
import functools
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bruno import BrunoClassifier, Evidence, UserError
from bruno.estimators.encoding import encoded
from tests.fuzzing import fuzz_settings

DIM = 3
RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(24, DIM)) * [1, 3, 0.1]
ROWS[3], ROWS[4] = ROWS[2], ROWS[2]  # the same more than once
ROWS[5] += 40
NUMBERS = [-5, 0, 1, 2, 200, 2**53 + 1, 2**53 + 3, 2**63]
STRINGS = ["", "a", "b", "zebra", "Ünïcode", "a longer label than the others"]
FORMS = {
    "strings": {
        "array": np.asarray,
        "list": list,
        "objects": lambda labels: np.asarray(labels, dtype=object),
        "pandas": lambda labels: pd.Series(labels, dtype="string"),
    },
    "numbers": {
        **{name: functools.partial(np.asarray, dtype=name) for name in ("int64", "uint8", "int8")},
        "uint64": functools.partial(np.asarray, dtype="uint64"),
        "float64": functools.partial(np.asarray, dtype="float64"),
        "float32": functools.partial(np.asarray, dtype="float32"),
        "list": list,
        "objects": lambda labels: np.asarray(labels, dtype=object),
        "Int64": functools.partial(pd.Series, dtype="Int64"),
        "UInt64": functools.partial(pd.Series, dtype="UInt64"),
        "torch": lambda labels: torch.tensor(labels, dtype=torch.int64, device="cpu"),
    },
}
EXACT = {"float64": 2**53, "float32": 2**24}


def in_form(labels, form, kind):
    """The labels in one of their forms, or None where it does not hold them."""
    if any(abs(label) >= EXACT[form] for label in labels if form in EXACT):
        return None
    try:
        formed = FORMS[kind][form](labels)
    except (OverflowError, TypeError, ValueError, RuntimeError):
        return None
    is_same = [int(one) if kind == "numbers" else one for one in formed] == labels
    return formed if is_same else None


@functools.cache
def model_of(flow, process):
    y = np.arange(24) % 4
    return BrunoClassifier(flow=flow, process=process, temperature=1.0).fit(ROWS, y).model_


rows_of = st.lists(st.integers(0, 23), min_size=1, max_size=4)


class Classifier(RuleBasedStateMachine):
    @initialize(
        flow=st.sampled_from(["diagonal", "affine"]),
        process=st.sampled_from(["gaussian", "student_t"]),
        kind=st.sampled_from(["numbers", "strings"]),
        unknown_prior=st.sampled_from([None, 0.2]),
        start=rows_of,
        data=st.data(),
    )
    def begin(self, flow, process, kind, unknown_prior, start, data):
        self.kind, self.labels = kind, {"numbers": NUMBERS, "strings": STRINGS}[kind]
        self.model = model_of(flow, process)
        self.z, _ = encoded(self.model, ROWS)
        self.classifier = BrunoClassifier(self.model, temperature=1.0, unknown_prior=unknown_prior)
        self.examples = {}
        self.learn(start, False, False, data)

    def labelled(self, number, data):
        """As many labels in some form, and what they are."""
        labels = data.draw(st.lists(st.sampled_from(self.labels), min_size=number, max_size=number))
        forms = {form: in_form(labels, form, self.kind) for form in FORMS[self.kind]}
        form = data.draw(st.sampled_from([f for f in forms if forms[f] is not None] or [None]))
        return (None, []) if form is None else (forms[form], labels)

    @rule(rows=rows_of, announce=st.booleans(), inference=st.booleans(), data=st.data())
    def learn(self, rows, announce, inference, data):
        y, labels = self.labelled(len(rows), data)
        classes, announced = self.labelled(2, data) if announce else (None, [])
        if y is None:
            y, labels = self.labelled(1, data)
            rows = rows[:1]
        with torch.inference_mode(inference):
            self.classifier.partial_fit(ROWS[rows], y, classes=classes)
        for row, label in zip(rows, labels, strict=True):
            self.examples.setdefault(label, []).append(row)
        for label in announced:
            self.examples.setdefault(label, [])
        for buffer in (y, classes):
            if isinstance(buffer, np.ndarray) and buffer.flags.writeable:
                buffer[:] = self.labels[1]

    def pairs(self):
        return [(row, label) for label, rows in self.examples.items() for row in rows]

    @precondition(lambda self: self.pairs())
    @rule(inference=st.booleans(), data=st.data())
    def forget(self, inference, data):
        pairs = data.draw(st.permutations(self.pairs()))[: data.draw(st.integers(1, 4))]
        left = copy.deepcopy(self.examples)
        for row, label in pairs:
            left[label].remove(row)
        touched = {label for _, label in pairs}
        left = {label: rows for label, rows in left.items() if rows or label not in touched}
        y = [label for _, label in pairs]
        with torch.inference_mode(inference):
            if not left:
                with pytest.raises(UserError, match="no class would be left"):
                    self.classifier.forget(ROWS[[row for row, _ in pairs]], y)
                return
            self.classifier.forget(ROWS[[row for row, _ in pairs]], y)
        self.examples = left

    @rule(row=st.integers(0, 23), data=st.data())
    def forget_too_much(self, row, data):
        label = data.draw(st.sampled_from(self.labels))
        rows = [row] * (len(self.examples.get(label, [])) + 1)
        with pytest.raises(UserError, match=r"as were seen|known classes|be left"):
            self.classifier.forget(ROWS[rows], [label] * len(rows))

    @rule(data=st.data())
    def fail(self, data):
        y, _ = self.labelled(1, data)
        for x, labels in ((np.full_like(ROWS[:1], np.inf), y), (ROWS[:2], y), (ROWS[:1, :2], y)):
            with pytest.raises(ValueError, match=r"X|NaN|features|y: expected"):
                self.classifier.partial_fit(x, labels)
        other = [0.5] if self.kind == "numbers" else [3]
        with pytest.raises(ValueError, match=r"y: expected|Unknown label type"):
            self.classifier.partial_fit(ROWS[:1], other)

    @rule(how=st.sampled_from(["pickle", "copy", "deepcopy", "save"]))
    def begin_a_second_life(self, how):
        first = self.classifier
        if how == "save":
            with tempfile.TemporaryDirectory() as folder:
                first.save(Path(folder) / "saved")
                self.classifier = BrunoClassifier.load(Path(folder) / "saved")
        elif how == "pickle":
            self.classifier = pickle.loads(pickle.dumps(first))  # noqa: S301
        else:
            self.classifier = getattr(copy, how)(first)
        first.partial_fit(ROWS[:1], first.classes_[:1])

    @invariant()
    def is_what_its_examples_make_of_it(self):
        if not hasattr(self, "classifier"):
            return
        labels = sorted(self.examples)
        classes = self.classifier.classes_
        assert classes.tolist() == labels
        assert classes.dtype.kind != "O" or self.kind == "strings" or {-5, 2**63} <= {*labels}
        evidence = [
            Evidence.of(self.z[self.examples[label]])
            if self.examples[label]
            else Evidence.empty(DIM)
            for label in labels
        ]
        whole = Evidence(
            *(
                torch.stack([getattr(one, name) for one in evidence])
                for name in ("count", "mean", "scatter")
            )
        )
        found = self.classifier.evidence_
        assert torch.equal(found.count, whole.count)
        torch.testing.assert_close(found.mean, whole.mean, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(found.scatter, whole.scatter, rtol=1e-8, atol=1e-8)
        with torch.no_grad():
            scores = self.model.process.log_prob_given(self.z[:8], whole)
        probabilities = self.classifier.predict_proba(ROWS[:8])
        assert probabilities.shape == (8, len(labels) + (self.classifier.unknown_prior is not None))
        known = probabilities[:, : len(labels)] + 1e-300
        expected = scores.softmax(1).numpy()
        np.testing.assert_allclose(known / known.sum(1, keepdims=True), expected, atol=1e-6)
        predicted = self.classifier.predict(ROWS[:8]).tolist()
        assert {*predicted} <= {*labels, self.classifier.unknown_label_}


Classifier.TestCase.settings = settings(fuzz_settings(8), stateful_step_count=15)
TestClassifier = Classifier.TestCase
