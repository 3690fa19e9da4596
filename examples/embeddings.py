"""Any vectors on disk: embed images with a pretrained model, then name, rank and save.

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

# Characters of scripts the pretrained model never saw; 200 numbers for each image.
images = load_dataset(DataConfig("glyphs"), "test")
with torch.no_grad():
    latent = Bruno.from_pretrained("glyphs").encode(images.images)
temporary = tempfile.TemporaryDirectory()
folder = Path(temporary.name)
np.save(folder / "vectors.npy", PCA(200, random_state=0).fit_transform(latent.numpy()))
np.save(folder / "names.npy", np.array(images.class_names)[images.labels])

# From here on there are only vectors and names.
vectors, names = np.load(folder / "vectors.npy"), np.load(folder / "names.npy")
classes = np.unique(names)
rng = np.random.default_rng(0)
learnt = np.isin(names, classes[::2])
classifier = BrunoClassifier(flow="diagonal", random_state=0)
classifier.fit(vectors[learnt], names[learnt])
print(f"model fitted to {len(classes[::2])} characters; {len(classes[1::2])} others are new")

# Three examples of each new character.
few = np.concatenate(
    [rng.choice(np.flatnonzero(names == name), 3, replace=False) for name in classes[1::2]]
)
rest = np.setdiff1d(np.flatnonzero(~learnt), few)
new = BrunoClassifier(model=classifier.model_).fit(vectors[few], names[few])
print(f"from 3 examples of each: {new.score(vectors[rest], names[rest]):.1%} named rightly")

# More like these three, out of everything.
handful = few[:3]
corpus = np.setdiff1d(np.arange(len(names)), handful)
found, _ = classifier.rank(vectors[handful], vectors[corpus], top_k=10)
of_them = names[corpus[found]] == names[handful[0]]
print(f"ten most like three of one character: {of_them.sum()} are of it")

new.save(folder / "classifier")
same = BrunoClassifier.load(folder / "classifier").predict(vectors[rest])
print(
    "predictions agree after saving and loading:", bool((same == new.predict(vectors[rest])).all())
)
temporary.cleanup()

if len(sys.argv) > 1:
    _, axes = plt.subplots(1, 14, figsize=(10, 1.2))
    shown = [*handful, *corpus[found]]
    for one, row in zip([*axes[:3], *axes[4:]], shown, strict=False):
        one.imshow(images.images[row, 0], cmap="gray")
    for one in axes:
        one.axis("off")
    axes[1].set_title("given")
    axes[8].set_title("ranked first")
    plt.savefig(sys.argv[1], dpi=110, bbox_inches="tight")
