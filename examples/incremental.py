"""Class-incremental learning: one more digit at a time, without retraining.

python examples/incremental.py [PICTURE]
"""

import sys
import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from bruno import BrunoClassifier

x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(x, y, test_size=0.5, random_state=0, stratify=y)

# The model is fitted to three digits; all others are added later, 20 examples of each.
first = y < 3
classifier = BrunoClassifier(scale="common", random_state=0).fit(x[first], y[first])
seen, refitted, ours, theirs = [*np.flatnonzero(first)], [], [], []
print("digits  bruno  ms an update | logistic regression  ms to refit")
for digit in range(3, 10):
    new = np.flatnonzero(y == digit)[:20]
    seen += [*new]
    start = time.perf_counter()
    classifier.partial_fit(x[new], y[new])
    update = time.perf_counter() - start
    start = time.perf_counter()
    other = LogisticRegression(max_iter=2000).fit(x[seen], y[seen])
    refit = time.perf_counter() - start
    known = y_test <= digit
    ours.append(classifier.score(x_test[known], y_test[known]))
    theirs.append(other.score(x_test[known], y_test[known]))
    print(f"{digit + 1:6d} {ours[-1]:6.1%} {1e3 * update:13.2f} |", end="")
    print(f"{theirs[-1]:20.1%} {1e3 * refit:12.0f}")

# Every example can be taken back, exactly.
new = np.flatnonzero(y == 9)[:20]
classifier.forget(x[new], y[new])
print("after forgetting the nines:", classifier.classes_)

if len(sys.argv) > 1:
    digits = np.arange(4, 11)
    _, axes = plt.subplots(figsize=(6, 3.5))
    axes.plot(digits, ours, "o-", label="BrunoClassifier, updated")
    axes.plot(digits, theirs, "s--", label="logistic regression, refitted")
    axes.set(xlabel="digits known", ylabel="accuracy on all of them")
    axes.legend()
    plt.savefig(sys.argv[1], dpi=110, bbox_inches="tight")
