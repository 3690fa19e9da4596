// Learn and classify in node what make_check.py asked for, and compare with its answers.
//
//     node check.mjs DIRECTORY

import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as ort from "onnxruntime-web";
import { Classifier } from "./bruno.mjs";

ort.env.wasm.numThreads = 1;
const directory = process.argv[2];
const json = async (name) => JSON.parse(await readFile(join(directory, name), "utf8"));
const config = await json("config.json");
const files = {};
for (const { file } of Object.values(config.graphs)) {
  files[file] = new Uint8Array(await readFile(join(directory, file)));
}
const { support, query, log_prob, relative } = await json("check.json");

const model = await Classifier.load(config, files);
for (const [name, images] of Object.entries(support)) {
  for (const image of images) await model.learn(name, [image]);
}
const found = await model.logProb(query);
let worst = 0;
found.forEach((row, i) =>
  row.forEach((value, k) => {
    worst = Math.max(worst, Math.abs(value - log_prob[i][k]) / Math.abs(log_prob[i][k]));
  }),
);
const best = (row) => Object.entries(row).sort((a, b) => b[1] - a[1])[0];
for (const row of await model.classify(query)) {
  const [name, probability] = best(row);
  console.log(`${name} ${(100 * probability).toFixed(1)} %`);
}
console.log(`largest relative difference of log p from Python: ${worst.toExponential(2)}`);
if (!(worst <= relative)) {
  console.error(`expected at most ${relative}`);
  process.exit(1);
}
