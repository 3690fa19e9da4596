"""The core without extras: what it does works, and the rest names the extra it needs."""

import subprocess
import sys

import numpy as np
import torch

import bruno

optional = {"PIL", "accelerate", "jsonargparse", "matplotlib", "pooch", "rich", "yaml"}
assert not optional & sys.modules.keys()

X = np.random.default_rng(0).normal(size=(60, 4))
y = np.arange(60) % 3
X[:, 0] += 4 * y
classifier = bruno.BrunoClassifier().fit(X, y)
assert classifier.score(X, y) > 0.9
classifier.partial_fit(X[:5] + 20, [7] * 5)
assert classifier.predict(X[:1] + 20) == [7]
assert bruno.BrunoOutlierDetector().fit(X).predict([[100.0] * 4]) == [-1]

model = bruno.Bruno.from_pretrained("omniglot")
support = torch.randint(2, (4, 1, 28, 28), generator=torch.Generator().manual_seed(0)) * 255
log_p, classes = bruno.few_shot.classify(model, support, ["a", "a", "b", "b"], support)
assert classes == ["a", "b"]
assert log_p.shape == (4, 2)
assert model.condition(support).sample(2).shape == (2, 1, 28, 28)

try:
    from bruno.data import load_image
except ModuleNotFoundError as error:
    assert "pip install 'bruno-sets[train]'" in str(error), error
else:
    raise AssertionError(f"expected {load_image} to need pillow")
command = subprocess.run(
    [sys.executable, "-m", "bruno.cli", "info"], capture_output=True, text=True, check=False
)
assert command.returncode == 2
assert command.stderr.startswith("bruno: error: this command needs "), command.stderr
assert command.stderr.count("\n") == 1, command.stderr
assert not optional & sys.modules.keys()
print("the core works without extras")  # noqa: T201
