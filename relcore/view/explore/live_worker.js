// The network, in a worker, so that the page stays alive. Messages: {load: {runtime, part}} starts a network and is
// answered by {ready}; {draw: {id, seed, pictures: [{words, bias, off, by}]}} draws pictures from the same noise, step by
// step in turn, and is answered by {id, step, side, pixels, patterns, ...} and {id, done}; {stop: true} ends that.
function work(E) {
  let ort, session, network, wanted;
  const blank = (...shape) => new Float32Array(shape.reduce((a, b) => a * b, 1));
  const pause = () => new Promise((resolve) => setTimeout(resolve)); // for messages to come in
  const pixel = (value) => Math.round((Math.min(1, Math.max(-1, value)) + 1) * 127.5);

  async function load({ runtime, part }) {
    if (!ort) {
      const [script, wasm] = await Promise.all(runtime.map(E.opened));
      ort = await import(URL.createObjectURL(new Blob([script], { type: "text/javascript" })));
      ort.env.wasm.wasmBinary = wasm.buffer;
      ort.env.wasm.numThreads = 1;
    }
    await session?.release();
    network = E.tensors(await E.opened(part));
    session = await ort.InferenceSession.create(network.graph.values, { executionProviders: ["wasm"] });
    delete network.graph;
  }

  // The inputs of one picture: conditional row first, then the unconditional one, both as long as the longer.
  function inputs({ words, bias }, empty) {
    const { dim } = network.header, token = Math.max(bias.length, empty.roles.length);
    const embeddings = blank(2, token, dim), biases = blank(2, token).fill(-Infinity);
    embeddings.set(words);
    embeddings.set(empty.values, token * dim);
    biases.set(bias);
    biases.fill(0, token, token + empty.roles.length);
    return { token, embeddings, biases };
  }

  // The mean of the heads that are off, where it takes their place: [layer, row, head, image * d_head].
  function replacement(off, by, step, rows) {
    const { layers, heads, schedule } = network.header, { means, sizes } = network, block = means.values.length / sizes.values.length;
    const values = blank(layers, rows, heads, block);
    if (by !== "mean") return values;
    for (const [layer, head] of off)
      for (let row = 0; row < rows; row++) {
        const pass = row ? schedule.t.length + schedule.guided.slice(0, step).filter(Boolean).length : step;
        const from = (pass * layers + layer) * heads + head, to = ((layer * rows + row) * heads + head) * block;
        for (let k = 0; k < block; k++) values[to + k] = (means.values[from * block + k] * sizes.values[from]) / 127;
      }
    return values;
  }

  async function clean(picture, x, step) {
    const { layers, heads, size, tokens, dim, schedule } = network.header, rows = schedule.guided[step] ? 2 : 1;
    const { off, by, read: { token, embeddings, biases } } = picture, block = network.means.values.length / network.sizes.values.length;
    const gate = blank(layers, heads).fill(1), image = blank(rows, x.length);
    for (const [layer, head] of off) gate[layer * heads + head] = 0;
    for (let row = 0; row < rows; row++) image.set(x, row * x.length);
    const tensor = (values, ...shape) => new ort.Tensor("float32", values, shape);
    const out = await session.run({
      image: tensor(image, rows, 3, size, size),
      t: tensor(blank(rows).fill(schedule.t[step]), rows),
      embeddings: tensor(embeddings.subarray(0, rows * token * dim), rows, token, dim),
      bias: tensor(biases.subarray(0, rows * token), rows, token),
      gate: tensor(gate, layers, heads),
      replacement: tensor(replacement(off, by, step, rows), layers, rows, heads, tokens, block / tokens),
    });
    const values = out.clean.data.slice(0, x.length);
    if (rows === 2) values.forEach((c, k) => { const u = out.clean.data[x.length + k]; values[k] = u + schedule.guidance * (c - u); });
    // Of the conditional row, in 8 bits: [layer, head, image, token].
    const all = out.patterns.data, used = picture.bias.length, patterns = new Uint8Array(layers * heads * tokens * used);
    for (let at = 0; at < patterns.length; at++) {
      const [s, rest] = [at % used, Math.floor(at / used)], [i, h, l] = [rest % tokens, Math.floor(rest / tokens) % heads, Math.floor(rest / tokens / heads)];
      patterns[at] = Math.round(255 * all[(((l * rows) * heads + h) * tokens + i) * token + s]);
    }
    Object.values(out).forEach((value) => value.dispose?.());
    return { values, patterns };
  }

  async function draw({ id, seed, pictures, empty }) {
    const { size, schedule } = network.header, n = 3 * size * size, started = performance.now();
    for (const picture of pictures) Object.assign(picture, { read: inputs(picture, empty), parts: [E.noise(seed, n)] });
    for (let step = 0; step < schedule.t.length; step++)
      for (const picture of pictures) {
        await pause();
        if (wanted !== id) return;
        const x = blank(n);
        schedule.weights[step].forEach((weight, k) => picture.parts[k].forEach((value, at) => { x[at] += weight * value; }));
        const { values, patterns } = await clean(picture, x, step);
        picture.parts.push(values);
        const pixels = new Uint8Array(n), plane = size * size; // [y, x, rgb]
        for (let at = 0; at < n; at++) pixels[at] = pixel(values[(at % 3) * plane + Math.floor(at / 3)]);
        postMessage({ id, step, side: picture.side, pixels, patterns }, [pixels.buffer, patterns.buffer]);
      }
    postMessage({ id, done: true, ms: performance.now() - started });
  }

  async function answer(data) {
    try {
      if (data.load) {
        await load(data.load);
        const { means, sizes, ...small } = network;
        postMessage({ ready: small });
      }
      if (data.draw) await draw(data.draw);
    } catch (error) {
      postMessage({ failed: String(error?.message ?? error), id: data.draw?.id });
    }
  }
  let last = Promise.resolve(); // one after the other; a new picture ends the one that is being drawn
  onmessage = ({ data }) => {
    wanted = data.draw?.id;
    last = last.then(() => answer(data));
  };
}
