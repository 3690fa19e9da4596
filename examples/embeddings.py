"""Vectors of any frozen backbone: new classes from three examples each, and strangers refused.

python examples/embeddings.py [PICTURE]
"""

import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.decomposition import PCA

from bruno import Bruno, BrunoClassifier
from bruno.data import load_dataset
from bruno.data.registry import DataConfig

# The backbone: any function from photos or texts to vectors. Here a small one that comes with the
# package, on characters of scripts that it never saw; 200 numbers for each image.
images = load_dataset(DataConfig("glyphs"), "test")
with torch.no_grad():
    latent = Bruno.from_pretrained("glyphs").encode(images.images)
vectors = PCA(200, random_state=0).fit_transform(latent.numpy())
names = np.array(images.class_names)[images.labels]

# From here on there are only vectors and names. Of half of the classes there are many examples:
# they teach how classes vary, and how far strangers are from them.
classes = np.unique(names)
old, new, strange = classes[::2], classes[1::4], classes[3::4]
learnt = np.isin(names, old)
classifier = BrunoClassifier(flow="diagonal", unknown_prior=0.2, random_state=0)
classifier.fit(vectors[learnt], names[learnt])
print(f"fitted to {len(old)} classes; {len(new)} are new, {len(strange)} will stay unknown")

# Next week: three examples of each new class, and nothing is trained.
rng = np.random.default_rng(0)
few = [rng.choice(np.flatnonzero(names == name), 3, replace=False) for name in new]
classifier.partial_fit(vectors[np.concatenate(few)], names[np.concatenate(few)])
rest = np.setdiff1d(np.flatnonzero(np.isin(names, new)), few)
strangers = np.isin(names, strange)
print(f"new, named rightly: {classifier.score(vectors[rest], names[rest]):.1%}")
refused = classifier.predict(vectors[strangers]) == classifier.unknown_label_
print(f"strangers refused: {refused.mean():.1%}")

with tempfile.TemporaryDirectory() as folder:
    classifier.save(Path(folder) / "classifier")
    loaded = BrunoClassifier.load(Path(folder) / "classifier")
same = (loaded.predict(vectors[rest]) == classifier.predict(vectors[rest])).all()
print("predictions agree after saving and loading:", bool(same))

if len(sys.argv) > 1:
    bins = np.linspace(0, 1, 21)
    for label, rows in (("new classes", rest), ("strangers", strangers)):
        plt.hist(classifier.predict_proba(vectors[rows])[:, -1], bins, alpha=0.6, label=label)
    plt.xlabel("probability of none of the known classes")
    plt.legend()
    plt.savefig(sys.argv[1], dpi=110, bbox_inches="tight")
