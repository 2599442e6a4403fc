// Runs a model that `dynnas export --format onnx` or `switchable` wrote, in a browser or in Node.
//
//   import * as ort from "onnxruntime-web";            // or "onnxruntime-node"
//   import { Model } from "./model.mjs";
//   const model = await Model.load(ort, "model/");      // the folder; in Node give readFile from node:fs/promises
//   const { name, confidence, exit } = await model.run(pixels);
//
// `pixels` are the red, green and blue values, one plane after the other, of a picture of the size of the data
// (`model.size`), from 0 to 255. It runs model.onnx, the graph for any machine.

export class Model {
  static async load(ort, folder, readFile) {
    const read = readFile ?? (async (file) => {
      const answer = await fetch(file);
      if (!answer.ok) throw new Error(`${file}: ${answer.status} ${answer.statusText}`);
      return new Uint8Array(await answer.arrayBuffer());
    });
    const manifest = JSON.parse(new TextDecoder().decode(await read(folder + "manifest.json")));
    const session = await ort.InferenceSession.create(await read(folder + "model.onnx"));
    return new Model(ort, manifest, session);
  }

  constructor(ort, manifest, session) {
    Object.assign(this, { ort, manifest, session, member: 0, ways: manifest.ways });
    const [, channels, height, width] = manifest.input.shape;
    Object.assign(this, { channels, height, width, size: manifest.input.data_size });
    this.rows = shares(this.size[0], height);
    this.columns = shares(this.size[1], width);
  }

  // Switch to the best network that takes at most `ms`, else to the fastest; for models that hold several.
  budgetMs(ms) {
    const members = this.manifest.members;
    if (!members) throw new Error("this model holds one network; export several with --format switchable");
    const fastest = members.reduce((a, b) => (b.ms < a.ms ? b : a));
    const chosen = members.find((member) => member.ms <= ms) ?? fastest;
    this.member = members.indexOf(chosen);
    this.ways = chosen.ways;
    return chosen.key;
  }

  async run(pixels) {
    const shape = [1, this.channels, this.height, this.width];
    const inputs = { image: new this.ort.Tensor("float32", this.prepare(pixels), shape) };
    if (this.manifest.members) inputs.member = new this.ort.Tensor("int64", [BigInt(this.member)], [1]);
    const { logits, exit } = await this.session.run(inputs);
    const values = Array.from(logits.data);
    const way = exit ? Number(exit.data[0]) : this.ways.length - 1;
    const most = Math.max(...values);
    const total = values.reduce((sum, value) => sum + Math.exp(value - most), 0);
    return {
      name: this.manifest.class_names[values.indexOf(most)],
      confidence: 1 / total,
      exit: this.ways[way],
      logits: values,
    };
  }

  // Normalise, and resize as training did: bilinear and antialiased.
  prepare(pixels) {
    const { mean, std, white } = this.manifest.input;
    const [height, width] = this.size;
    const image = new Float32Array(this.channels * this.height * this.width);
    for (let channel = 0; channel < this.channels; channel++) {
      const plane = new Float64Array(height * this.width);
      for (let row = 0; row < height; row++)
        for (let column = 0; column < this.width; column++)
          for (const [from, share] of this.columns[column])
            plane[row * this.width + column] +=
              (share * (pixels[(channel * height + row) * width + from] / white - mean[channel])) / std[channel];
      for (let row = 0; row < this.height; row++)
        for (let column = 0; column < this.width; column++)
          for (const [from, share] of this.rows[row])
            image[(channel * this.height + row) * this.width + column] += share * plane[from * this.width + column];
    }
    return image;
  }
}

// For each of `wanted` lines of pixels, the lines of `given` that it is made of, and their shares.
function shares(given, wanted) {
  if (given === wanted) return Array.from({ length: given }, (_, line) => [[line, 1]]);
  const scale = given / wanted;
  const reach = Math.max(scale, 1);
  return Array.from({ length: wanted }, (_, line) => {
    const centre = (line + 0.5) * scale;
    const found = [];
    for (let from = 0; from < given; from++) {
      const weight = 1 - Math.abs(from + 0.5 - centre) / reach;
      if (weight > 0) found.push([from, weight]);
    }
    const total = found.reduce((sum, [, weight]) => sum + weight, 0);
    return found.map(([from, weight]) => [from, weight / total]);
  });
}
