"""An alarm for elements that do not belong to a stream, with an update per element.

python examples/streaming_alarm.py [PICTURE]

The model has learnt how digits vary from the digits 0 to 4; the stream is of eights, with a few
other digits among them.
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from bruno import BrunoClassifier

x, y = load_digits(return_X_y=True)
model = BrunoClassifier(temperature=1.0, random_state=0).fit(x[y < 5], y[y < 5]).model_

generator = np.random.default_rng(0)
stream, strange = x[y == 8][:90], np.zeros(90, dtype=bool)
places = generator.choice(np.arange(20, 90), 8, replace=False)
stream[places], strange[places] = x[(y > 4) & (y != 8)][:8], True

prior = model.prior()
predictive, scores, limits = prior, [], []
with torch.no_grad():
    for element in torch.tensor(stream):
        score = float(predictive.log_prob(element) - prior.log_prob(element))
        # An element that the set makes less probable, or much less so than the recent ones.
        first, third = np.quantile(scores[-30:] or [0.0], (0.25, 0.75))
        limits.append(max(0.0, first - 1.5 * (third - first)) if len(scores) > 5 else -np.inf)
        scores.append(score)
        if score >= limits[-1]:
            predictive = predictive.observe(element[None])  # O(D), whatever was seen before

scores, limits = np.array(scores), np.array(limits)
alarms = scores < limits
print(f"planted: {strange.sum()}, of these found: {(alarms & strange).sum()}")
print(f"false alarms: {(alarms & ~strange).sum()} of {(~strange).sum()}")

if len(sys.argv) > 1:
    _, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    place = np.arange(len(scores))
    ax.plot(place[~strange], scores[~strange], ".", label="eights")
    ax.plot(place[strange], scores[strange], "x", color="C3", label="planted")
    ax.plot(place, limits, color="0.5", lw=1, label="limit")
    ax.set(xlabel="position in the stream", ylabel="score [nats]")
    ax.legend()
    plt.savefig(sys.argv[1], dpi=110)
