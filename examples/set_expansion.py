"""Set expansion: order a corpus by similarity to a handful, as Bayesian Sets do.

python examples/set_expansion.py [PICTURE]
"""

import sys

import matplotlib.pyplot as plt
from sklearn.datasets import load_digits

from bruno import BrunoClassifier

x, y = load_digits(return_X_y=True)
# How digits vary is learnt from some classes; the handful is of others.
model = BrunoClassifier(temperature=1.0, random_state=0).fit(x[y < 6], y[y < 6])
corpus, digits = x[y >= 6], y[y >= 6]

for digit in (6, 7, 8, 9):
    handful = corpus[digits == digit][:3]
    found, scores = model.rank(handful, corpus, top_k=50)
    share = (digits[found] == digit).mean()
    print(
        f"{digit}: of the 50 most similar {share:.0%} are {digit}s; nats {scores[0]:.0f} to ",
        end="",
    )
    print(f"{scores[-1]:.0f}")

if len(sys.argv) > 1:
    found, _ = model.rank(corpus[digits == 8][:3], corpus, top_k=12)
    _, axes = plt.subplots(1, 15, figsize=(9, 1), layout="constrained")
    for ax, image in zip(axes, [*corpus[digits == 8][:3], *corpus[found]], strict=True):
        ax.imshow(image.reshape(8, 8), cmap="gray")
        ax.axis("off")
    axes[0].set_title("given", loc="left", fontsize=8)
    axes[3].set_title("found", loc="left", fontsize=8)
    plt.savefig(sys.argv[1], dpi=110)
