// Few-shot learning with a model that `bruno export --format onnx` wrote, in browsers and in node.

import * as ort from "onnxruntime-web";

/** Sufficient statistics of a set of latent vectors: what a class is to the model. */
export class Evidence {
  constructor(dim) {
    this.count = 0;
    this.mean = new Float64Array(dim);
    this.scatter = new Float64Array(dim);
  }

  /** Learn one more latent vector, exactly; the order does not matter. */
  observe(z) {
    this.count += 1;
    for (let i = 0; i < z.length; i++) {
      const shift = z[i] - this.mean[i];
      this.mean[i] += shift / this.count;
      this.scatter[i] += shift * (z[i] - this.mean[i]);
    }
  }
}

/** An exported model, and the classes it has learnt. */
export class Classifier {
  /**
   * @param {object} config The parsed config.json.
   * @param {Record<string, Uint8Array | string>} files Content or address of every graph.
   */
  static async load(config, files) {
    const open = (name) => ort.InferenceSession.create(files[config.graphs[name].file]);
    return new Classifier(config, await open("encode"), await open("log_prob"));
  }

  constructor(config, encoder, scorer) {
    this.config = config;
    this.encoder = encoder;
    this.scorer = scorer;
    this.classes = new Map();
  }

  /** Return the latent vectors and log-determinants of images: arrays of grey levels, 0 to 255. */
  async encode(images) {
    const shape = this.config.event_shape;
    const size = shape.reduce((a, b) => a * b);
    const x = new Float32Array(images.length * size);
    images.forEach((image, index) => {
      if (image.length !== size) {
        throw new Error(`image: expected ${size} grey levels, got ${image.length}`);
      }
      image.forEach((level, i) => (x[index * size + i] = level + 0.5));
    });
    const input = new ort.Tensor("float32", x, [images.length, ...shape]);
    const { z, log_det } = await this.encoder.run({ x: input });
    return { z, log_det };
  }

  /** Learn images of a class, at once and exactly; there may be new classes at any time. */
  async learn(name, images) {
    const { z } = await this.encode(images);
    const dim = this.config.latent_dim;
    if (!this.classes.has(name)) this.classes.set(name, new Evidence(dim));
    images.forEach((_, i) => this.classes.get(name).observe(z.data.subarray(i * dim, (i + 1) * dim)));
  }

  /** Return log p(image | examples of the class) of every image and class, in nats. */
  async logProb(images) {
    const sets = [...this.classes.values()];
    const dim = this.config.latent_dim;
    const stack = (key) => {
      const all = new Float64Array(sets.length * dim);
      sets.forEach((set, i) => all.set(set[key], i * dim));
      return new ort.Tensor("float64", all, [sets.length, dim]);
    };
    const counts = BigInt64Array.from(sets, (set) => BigInt(set.count));
    const { log_prob } = await this.scorer.run({
      ...(await this.encode(images)),
      count: new ort.Tensor("int64", counts, [sets.length]),
      mean: stack("mean"),
      scatter: stack("scatter"),
    });
    return images.map((_, i) => log_prob.data.subarray(i * sets.length, (i + 1) * sets.length));
  }

  /** Return the probability of every class, by name, for every image; classes are as probable. */
  async classify(images) {
    const names = [...this.classes.keys()];
    return (await this.logProb(images)).map((row) => {
      const most = Math.max(...row);
      const weights = Array.from(row, (value) => Math.exp(value - most));
      const total = weights.reduce((a, b) => a + b);
      return Object.fromEntries(names.map((name, i) => [name, weights[i] / total]));
    });
  }
}
