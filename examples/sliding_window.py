"""A sliding window over a stream that changes: observe the new element, forget the oldest.

python examples/sliding_window.py [PICTURE]
"""

import sys
from collections import deque

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.datasets import load_digits

from bruno import BrunoClassifier

WINDOW = 25
x, y = load_digits(return_X_y=True)
model = BrunoClassifier(temperature=1.0, random_state=0).fit(x[y < 5], y[y < 5]).model_
stream = torch.tensor(np.concatenate([x[y == 7][:80], x[y == 9][:80]]))  # changes in the middle

window: deque[torch.Tensor] = deque()
recent = everything = model.prior()
gains: dict[str, list[float]] = {"window of 25": [], "everything": []}
with torch.no_grad():
    for element in stream:
        prior = model.prior().log_prob(element)
        gains["window of 25"].append(float(recent.log_prob(element) - prior))
        gains["everything"].append(float(everything.log_prob(element) - prior))
        everything = everything.observe(element[None])
        recent = recent.observe(element[None])
        window.append(element)
        if len(window) > WINDOW:
            recent = recent.forget(window.popleft()[None])

    rebuilt = model.condition(torch.stack([*window]))
    error = (recent.evidence.mean - rebuilt.evidence.mean).abs().max()
print(f"drift of the mean after {len(stream)} updates: {float(error):.0e}")
for name, values in gains.items():
    print(f"{name:13} mean gain over the prior, last 40 elements: {np.mean(values[-40:]):.1f} nats")

if len(sys.argv) > 1:
    _, ax = plt.subplots(figsize=(8, 3), layout="constrained")
    for name, values in gains.items():
        ax.plot(values, lw=1, label=name)
    ax.axvline(80, color="0.5", ls="--")
    ax.set(xlabel="element", ylabel="gain over the prior [nats]")
    ax.legend()
    plt.savefig(sys.argv[1], dpi=110)
