"""Learn digits one class at a time, without retraining, beside a model that is refitted each time.

    python examples/new_classes.py [PICTURE]

A classifier is fitted to two digits; the other eight arrive one by one, and every example is one
update. Logistic regression is refitted to all examples so far. Both are tested on all digits seen.
"""

from __future__ import annotations

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from bruno import BrunoClassifier

EACH = 40
FIRST = 2

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=0.5, stratify=y, random_state=0)
examples = [X[y == digit][:EACH] for digit in range(10)]

ours = BrunoClassifier(random_state=0)
ours.fit(np.concatenate(examples[:FIRST]), np.repeat(np.arange(FIRST), EACH))
theirs = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))

print("classes   Bruno, %   us per example   refitted LogisticRegression, %   us per refit")
history = []
for digit in range(FIRST, 10):
    seconds = []
    for example in examples[digit]:
        begin = time.perf_counter()
        ours.partial_fit(example[None], np.array([digit]))
        seconds.append(time.perf_counter() - begin)
    begin = time.perf_counter()
    theirs.fit(np.concatenate(examples[: digit + 1]), np.repeat(np.arange(digit + 1), EACH))
    times = 1e6 * np.median(seconds), 1e6 * (time.perf_counter() - begin)
    known = y_test <= digit
    right = [100 * model.score(X_test[known], y_test[known]) for model in (ours, theirs)]
    history.append((*right, *times))
    print(f"{digit + 1:7} {right[0]:10.1f} {times[0]:16.0f} {right[1]:32.1f} {times[1]:14.0f}")

if len(sys.argv) > 1:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    lines = ("BrunoClassifier, updated", "LogisticRegression, refitted")
    for column, values in enumerate(np.transpose(history)):
        axes[column // 2].plot(range(FIRST + 1, 11), values, "o-", label=lines[column % 2])
    axes[0].set(xlabel="classes seen", ylabel="accuracy over all of them, %", ylim=(88, 100))
    axes[1].set(xlabel="classes seen", ylabel="microseconds a new example, or refit", yscale="log")
    axes[0].legend(loc="lower left")
    figure.savefig(sys.argv[1], dpi=150)
