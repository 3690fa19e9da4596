"""Open-set recognition and outlier detection on digits.

python examples/open_set.py [PICTURE]
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split

from bruno import BrunoClassifier, BrunoOutlierDetector

x, y = load_digits(return_X_y=True)
x, x_test, y, y_test = train_test_split(x, y, test_size=0.5, random_state=0, stratify=y)

# Only 0 to 6 are known; three elements in ten are expected to be of none of them.
known = y < 7
classifier = BrunoClassifier(unknown_prior=0.3, random_state=0)
classifier.fit(x[known], y[known])
predicted = classifier.predict(x_test)
unknown = predicted == classifier.unknown_label_
new = y_test >= 7
right = predicted == y_test
print(f"of known digits: {right[~new].mean():.1%} named rightly, ", end="")
print(f"{unknown[~new].mean():.1%} rejected")
print(f"of unknown digits: {unknown[new].mean():.1%} rejected")
none_of_them = classifier.predict_proba(x_test)[:, -1]
print(f"area under the curve of p(none of them): {roc_auc_score(new, none_of_them):.3f}")

# What does not belong to a set: here, everything that is not a three.
detector = BrunoOutlierDetector(contamination=0.05)
detector.fit(x[y == 3])
scores = detector.decision_function(x_test)
print(f"outliers among threes: {(scores[y_test == 3] < 0).mean():.1%}, ", end="")
print(f"among other digits: {(scores[y_test != 3] < 0).mean():.1%}")

if len(sys.argv) > 1:
    _, (left, right_axes) = plt.subplots(1, 2, figsize=(9, 3.3))
    bins = np.linspace(0, 1, 26)
    left.hist([none_of_them[~new], none_of_them[new]], bins, label=["known", "unknown"])
    left.set(xlabel="p(none of the known digits)", ylabel="test images", yscale="log")
    left.legend()
    bins = np.linspace(np.quantile(scores, 0.01), scores.max(), 40)
    right_axes.hist([scores[y_test == 3], scores[y_test != 3]], bins, label=["threes", "others"])
    right_axes.axvline(0, color="black", linewidth=1)
    right_axes.set(xlabel="log-density above the threshold [nats]")
    right_axes.legend()
    plt.savefig(sys.argv[1], dpi=110, bbox_inches="tight")
