"""Classify one's own images: a folder of examples, and a new image.

python examples/own_images.py [PICTURE]

Here the folder is made of built-in characters; put your own in its place.
"""

import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

import bruno
from bruno.data import load_dataset, load_folder, load_image
from bruno.reporting.figures import to_png
from bruno.reporting.image_grids import plot_samples_given

with tempfile.TemporaryDirectory() as scratch:
    folder, new_file = Path(scratch) / "my-images", Path(scratch) / "new.png"
    characters = load_dataset("glyphs", "test")
    for label, name in enumerate(("alpha", "beta", "gamma")):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(characters.images[characters.indices_of(10 * label)][:6]):
            on_paper = Image.fromarray(255 - image[0].numpy())  # dark ink on white
            on_paper.save(folder / name / f"{i}.png")
    (folder / "beta" / "5.png").rename(new_file)

    mine = load_folder(folder, invert=True)
    new = load_image(new_file, invert=True)

model = bruno.Bruno.from_pretrained("omniglot")
log_p, classes = bruno.few_shot.classify(model, mine.images, mine.labels, new[None])
for label, p in zip(classes, log_p[0].exp().tolist(), strict=True):
    print(f"{mine.class_names[label]:6} {p:.3f}")

best = int(log_p.argmax())
examples = mine.images[mine.indices_of(best)]
with torch.no_grad():
    gain = model.condition(examples).log_prob(new) - model.prior().log_prob(new)
print(f"the examples of {mine.class_names[best]} make it {float(gain):.0f} nats more probable")

if len(sys.argv) > 1:
    axes = plot_samples_given(examples[None], {"new": new[None, None]})
    Path(sys.argv[1]).write_bytes(to_png(axes))
