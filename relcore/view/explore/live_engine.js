// What drawing takes besides the network: noise, words, the sampler's sums, the scorer. No page, no worker, so that
// Node can hold it against Python. `tables` are those of live.py: words, sentences and constants are written there.
function engine() {
  // torch.randn(n) of a generator seeded so, on the CPU, for n a multiple of 16: MT19937 and Box-Muller in blocks of 16.
  function noise(seed, n) {
    const state = new Uint32Array(624);
    state[0] = seed;
    for (let k = 1; k < 624; k++) state[k] = Math.imul(1812433253, state[k - 1] ^ (state[k - 1] >>> 30)) + k;
    let at = 624;
    const uniform = () => {
      if (at === 624) {
        for (let k = 0; k < 624; k++) {
          const y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7fffffff);
          state[k] = state[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
        }
        at = 0;
      }
      let y = state[at++];
      y ^= y >>> 11;
      y ^= (y << 7) & 0x9d2c5680;
      y ^= (y << 15) & 0xefc60000;
      y ^= y >>> 18;
      return (y & 0xffffff) / 0x1000000;
    };
    const values = Float32Array.from({ length: n }, uniform);
    for (let start = 0; start < n; start += 16)
      for (let k = start; k < start + 8; k++) {
        const radius = Math.sqrt(-2 * Math.log(1 - values[k])), angle = 2 * Math.PI * values[k + 8];
        values[k] = radius * Math.cos(angle);
        values[k + 8] = radius * Math.sin(angle);
      }
    return values;
  }

  // --- prompts: relcore.data.prompts.parse

  const quoted = (text) => { // Python's repr
    const mark = text.includes("'") && !text.includes('"') ? '"' : "'";
    return mark + text.replace(/[\\\n\r\t]/g, (c) => ({ "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t" })[c]).replaceAll(mark, `\\${mark}`) + mark;
  };
  function parse(text, tables) {
    const { colors, shapes, synonyms, fillers, phrases, pattern, refusals, grammar } = tables;
    const refused = (why, word = "") => new Error(`${refusals[why].replace(/\{(\w+)\}/g, (_, slot) => (slot === "word" ? word : quoted(text)))}: write ${grammar}`);
    const lower = text.toLowerCase(), found = new RegExp(pattern).exec(lower);
    if (!found) throw refused("no relation");
    const [from, to] = [found.index, found.index + found[0].length], relation = phrases[found[0].split(/\s+/).join(" ")];
    const words = [...lower.matchAll(/\S+/g)], names = words.map((word) => synonyms[word[0]] ?? word[0]);
    const spans = [], named = { color: [-1, -1], shape: [-1, -1] };
    let mention = 0;
    words.forEach((word, k) => {
      const [start, name] = [word.index, names[k]];
      let role = "filler";
      const again = new RegExp(pattern, "y");
      again.lastIndex = start;
      if (from <= start && start < to) role = "relation";
      else if (colors.includes(name)) {
        role = "color";
        if (mention > 1 || !shapes.includes(names[k + 1])) throw refused("colour out of place", word[0]);
        named.color[mention] = colors.indexOf(name);
      } else if (shapes.includes(name)) {
        role = "shape";
        if (mention > 1) throw refused("more shapes");
        named.shape[mention] = shapes.indexOf(name);
      } else if (!fillers.includes(name)) throw refused(again.test(lower) ? "second relation" : "unknown word", word[0]);
      spans.push([start, start + word[0].length, role, mention]);
      mention += role === "shape";
    });
    if (mention < 2) throw refused("fewer shapes", `${mention} shape${mention === 1 ? "" : "s"}`);
    const [first, second] = spans.filter((span) => span[2] === "shape").map((span) => span[0]);
    if (from > second) throw refused("relation last");
    const order = from < first ? [1, 0] : [0, 1];
    return {
      text, relation,
      colors: order.map((m) => named.color[m]),
      shapes: order.map((m) => named.shape[m]),
      spans: spans.map(([start, end, role, m]) => [start, end, role === "color" || role === "shape" ? role + (order[m] + 1) : role]),
    };
  }

  // The words as the encoder reads them, [word, role, its tokens], from the roles of the tokens: as `words_of` in Python.
  function wordsOf(prompt, roles) {
    const runs = (items, role) => items.reduce((all, item) => {
      if (all.length && role(all.at(-1)[0]) === role(item)) all.at(-1).push(item);
      else all.push([item]);
      return all;
    }, []);
    const spoken = runs(prompt.spans, (span) => span[2]).values(), words = [];
    for (const run of runs(roles.map((role, token) => ({ role, token })), (one) => one.role)) {
      const role = run[0].role, tokens = run.map((one) => one.token);
      if (role === "special") { words.push([words.length ? "end" : "start", role, tokens]); continue; }
      const said = spoken.next().value.map(([start, end]) => prompt.text.slice(start, end));
      if (said.length === tokens.length) said.forEach((word, k) => words.push([word, role, [tokens[k]]]));
      else words.push([said.join(" "), role, tokens]);
    }
    return words;
  }

  // --- the scorer: relcore.data.scoring, with what it uses of OpenCV

  // Outer borders of the 8-connected regions, corners only (findContours, RETR_EXTERNAL, CHAIN_APPROX_SIMPLE), and what
  // each encloses. on: 0 or 1 a pixel of a square with a border of zeros.
  function regions(on, size) {
    const steps = [1, 1 - size, -size, -size - 1, -1, size - 1, size, size + 1];
    const point = (p) => [(p % size) - 1, Math.floor(p / size) - 1];
    const outside = new Uint8Array(on.length), queue = [0];
    outside[0] = 1;
    while (queue.length) { // the ground that is 4-connected with the border
      const p = queue.pop();
      for (const step of [1, -1, size, -size]) {
        const q = p + step;
        if (q >= 0 && q < on.length && !on[q] && !outside[q]) { outside[q] = 1; queue.push(q); }
      }
    }
    const seen = new Uint8Array(on.length), all = [];
    for (let start = 0; start < on.length; start++) {
      if (outside[start] || seen[start]) continue;
      const inside = [start]; // all that is not outside: the region, its holes and what is in them
      seen[start] = 1;
      for (let k = 0; k < inside.length; k++)
        for (const step of on[inside[k]] ? steps : [1, -1, size, -size]) {
          const q = inside[k] + step;
          if (!outside[q] && !seen[q]) { seen[q] = 1; inside.push(q); }
        }
      const corners = [];
      let s = 4, first;
      do { s = (s - 1) & 7; first = start + steps[s]; } while (!on[first] && s !== 4);
      if (!on[first]) corners.push(point(start));
      else {
        let here = start, before = s ^ 4;
        for (;;) {
          let next;
          do { s = (s + 1) & 7; next = here + steps[s]; } while (!on[next]);
          if (s !== before) { corners.push(point(here)); before = s; }
          if (next === start && here === first) break;
          here = next;
          s = (s + 4) & 7;
        }
      }
      all.push({ corners, inside: inside.map(point) });
    }
    return all;
  }

  // Number of corners of the polygon that approximates a closed contour (approxPolyDP).
  function polygon(contour, tolerance) {
    const eps = tolerance * tolerance, count = contour.length, out = [], stack = [];
    let pos = 0, far = 0, most = 0, start;
    for (let round = 0; round < 3; round++) { // about the two points that lie farthest apart
      pos = (pos + far) % count;
      start = contour[pos];
      most = 0;
      for (let j = 1; j < count; j++) {
        const [x, y] = contour[(pos + j) % count], distance = (x - start[0]) ** 2 + (y - start[1]) ** 2;
        if (distance > most) [most, far] = [distance, j];
      }
    }
    if (most <= eps) return 1;
    const other = (far + pos) % count;
    stack.push([other, pos], [pos, other]);
    while (stack.length) {
      const [a, b] = stack.pop(), [from, to] = [contour[a], contour[b]];
      const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
      let widest = 0, at = a;
      for (let p = (a + 1) % count; p !== b; p = (p + 1) % count) {
        const distance = Math.abs((contour[p][1] - from[1]) * dx - (contour[p][0] - from[0]) * dy);
        if (distance > widest) [widest, at] = [distance, p];
      }
      if (widest * widest <= eps * (dx * dx + dy * dy)) out.push(from);
      else stack.push([at, b], [a, at]);
    }
    let left = out.length, write = 0, read = 0; // points on almost straight lines go
    const total = out.length, next = () => { const p = out[read]; read = (read + 1) % total; return p; };
    let [behind, here] = [out[total - 1], next()];
    for (let i = 0; i < total && left > 2; i++) {
      const ahead = next(), [dx, dy] = [ahead[0] - behind[0], ahead[1] - behind[1]];
      const distance = Math.abs((here[0] - behind[0]) * dy - (here[1] - behind[1]) * dx);
      const onward = (here[0] - behind[0]) * (ahead[0] - here[0]) + (here[1] - behind[1]) * (ahead[1] - here[1]);
      if (distance * distance <= 0.5 * eps * (dx * dx + dy * dy) && dx && dy && onward >= 0) {
        left--;
        out[write] = behind = ahead;
        write = (write + 1) % total;
        here = next();
        i++;
      } else {
        out[write] = behind = here;
        write = (write + 1) % total;
        here = ahead;
      }
    }
    return left;
  }

  // Objects in a picture [y, x, rgb] of so many pixels a side: [{color, shape, x, y}].
  function detect(pixels, side, tables) {
    const { canvas, level, area, polygon: share, sides, margin } = tables.scorer, size = canvas + 2, found = [];
    const value = (x, y, channel) => pixels[3 * (Math.floor((y * side) / canvas) * side + Math.floor((x * side) / canvas)) + channel];
    for (let channel = 0; channel < 3; channel++) {
      const on = new Uint8Array(size * size);
      for (let y = 0; y < canvas; y++) for (let x = 0; x < canvas; x++) on[(y + 1) * size + x + 1] = value(x, y, channel) > level;
      for (const { corners, inside } of regions(on, size)) {
        const [xs, ys] = [0, 1].map((k) => corners.map((corner) => corner[k]));
        const [left, top] = [Math.min(...xs), Math.min(...ys)], [wide, high] = [Math.max(...xs) - left + 1, Math.max(...ys) - top + 1];
        if (wide * high < area || inside.length < area) continue;
        const round = corners.reduce((sum, [x, y], k) => sum + Math.hypot(x - corners.at(k - 1)[0], y - corners.at(k - 1)[1]), 0);
        const number = polygon(corners, share * round);
        const shape = number === 4 ? (Math.abs(wide - high) < sides ? 0 : -1) : number === 3 ? 1 : number > 4 ? 2 : -1;
        const [red, green, blue] = [0, 1, 2].map((c) => inside.reduce((sum, [x, y]) => sum + value(x, y, c), 0) / inside.length);
        const pure = (one, others) => one > 255 - margin && Math.max(...others) < margin;
        const color = pure(red, [green, blue]) ? 0 : pure(blue, [red, green]) ? 1 : -1;
        found.push({ color, shape, x: left + wide / 2, y: top + high / 2 });
      }
    }
    return found;
  }

  function relationOf(dx, dy, threshold) {
    if (Math.abs(dx) <= threshold) return dy < 0 ? 0 : 1;
    if (Math.abs(dy) <= threshold) return dx < 0 ? 2 : 3;
    return 4 + 2 * (dy >= 0) + (dx >= 0);
  }

  // Verdicts as `score` gives them, and `seen`, the relation in which the two objects stand (-1: they are not both there).
  function score(objects, prompt, tables) {
    const { threshold } = tables.scorer, name = tables.relations[prompt.relation];
    const [a, b] = [0, 1].map((k) => objects.filter((o) => o.shape === prompt.shapes[k] && o.color >= 0
      && (prompt.colors[k] < 0 || o.color === prompt.colors[k])));
    const bound = a.length === 1 && b.length === 1 && a[0] !== b[0];
    const [dx, dy] = bound ? [a[0].x - b[0].x, a[0].y - b[0].y] : [NaN, NaN], seen = bound ? relationOf(dx, dy, threshold) : -1;
    const amounts = { above: -dy, upper: -dy, below: dy, lower: dy, left: -dx, right: dx };
    return {
      color: prompt.colors.every((c) => c < 0 || objects.some((o) => o.color === c)),
      shape: prompt.shapes.every((s) => objects.some((o) => o.shape === s)),
      binding: bound,
      relation_strict: seen === prompt.relation,
      relation_loose: bound && name.split(" ").every((word) => amounts[word] > threshold),
      seen,
    };
  }

  // --- a network's file: base64 of gzip of safetensors

  async function opened(base64) {
    const text = atob(base64), zipped = new Uint8Array(text.length);
    for (let k = 0; k < zipped.length; k++) zipped[k] = text.charCodeAt(k);
    const stream = new Blob([zipped]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  const half = (bits) => {
    const [sign, exponent, rest] = [bits & 0x8000 ? -1 : 1, (bits >> 10) & 31, bits & 1023];
    return sign * (exponent ? 2 ** (exponent - 15) * (1 + rest / 1024) : 2 ** -14 * (rest / 1024));
  };
  const KINDS = { F32: Float32Array, F16: Uint16Array, I8: Int8Array, U8: Uint8Array, I64: BigInt64Array };
  function tensors(bytes) {
    const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
    const { __metadata__, ...listed } = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
    const read = ({ dtype, shape, data_offsets: [start, end] }) => {
      const values = new KINDS[dtype](bytes.slice(8 + length + start, 8 + length + end).buffer);
      return { shape, values: dtype === "F16" ? Float32Array.from(values, half) : dtype === "I64" ? Array.from(values, Number) : values };
    };
    return { header: JSON.parse(__metadata__.relcore), ...Object.fromEntries(Object.entries(listed).map(([name, one]) => [name, read(one)])) };
  }

  // Vectors [token, dim] and roles [token] of a prompt; "" is the unconditional one. null where the table lacks it.
  function encoded(network, prompt, tables) {
    const { header } = network, dim = header.dim, row = header.prompts?.indexOf(prompt.text ?? "");
    if (header.prompts) { // a contextual encoder's table
      if (row < 0) return null;
      const [start, n] = [network.lengths.values.slice(0, row).reduce((a, b) => a + b, 0), network.lengths.values[row]];
      const values = network.vectors.values.slice(start * dim, (start + n) * dim).map((v, k) => (v - network.mean.values[k % dim]) * header.scale);
      return { values, roles: [...network.roles.values.slice(start, start + n)].map((role) => tables.roles[role]) };
    }
    const spans = prompt.spans ?? [], words = [...spans.map(([start, end]) => prompt.text.slice(start, end).toLowerCase()), header.words.at(-1)];
    const values = new Float32Array(words.length * dim);
    words.forEach((word, token) => {
      const at = header.words.indexOf(word) * dim;
      for (let k = 0; k < dim; k++) values[token * dim + k] = network.words.values[at + k] + network.positions.values[token * dim + k];
    });
    return { values, roles: [...spans.map((span) => span[2]), "special"] };
  }

  return { noise, parse, wordsOf, detect, score, opened, tensors, encoded };
}
