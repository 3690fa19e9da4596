"""Write the photos that the second tab of ``bruno serve`` offers: test objects chosen by a seed.

BRUNO_DATA_DIR=... python benchmarks/serving_examples.py
"""

import numpy as np
from PIL import Image

from bruno.data import DataConfig, load_dataset
from bruno.serving.views import PHOTOS

COUNT, SEED = 8, 1


def main():
    data = load_dataset(DataConfig(name="turntable"), "test")
    chosen = np.random.default_rng(SEED).choice(data.num_classes, COUNT, replace=False)
    PHOTOS.mkdir(exist_ok=True)
    for number, label in enumerate(chosen):
        front = data.images[data.indices_of(int(label))[0], 0]
        Image.fromarray(front.numpy()).save(PHOTOS / f"{number}.png", optimize=True)
        print(number, data.class_names[label])


if __name__ == "__main__":
    main()
