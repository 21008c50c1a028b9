// What all explorable figures share. The figure's own script follows in the same module and defines
// figure(view), which builds what stays and returns draw(), called whenever something has changed.

const REDUCED = matchMedia("(prefers-reduced-motion: reduce)");
let d3; // set before a figure is drawn

// One answer of the kernel that has this key, or null where none comes in time.
function answered(model, question, key, wait) {
  return new Promise((resolve) => {
    const done = (message) => {
      if (message && !(key in message)) return;
      clearTimeout(timer);
      model.off("msg:custom", done);
      resolve(message ? message[key] : null);
    };
    const timer = setTimeout(done, wait);
    model.on("msg:custom", done);
    model.send(question);
  });
}

// The page's own script, else the kernel's copy, else a public server.
async function loadD3(model) {
  globalThis.d3 ??= globalThis.relcoreD3;
  if (globalThis.d3) return globalThis.d3;
  const text = await answered(model, { d3: true }, "d3", 4000);
  if (!text) return import("https://cdn.jsdelivr.net/npm/d3@7/+esm");
  const module = { exports: {} };
  new Function("exports", "module", text)(module.exports, module);
  return (globalThis.relcoreD3 = module.exports);
}

// A `packed` array: its numbers, and at(i, j, ...), the number or, with fewer indices, the part there.
async function unpack({ shape, low, high, bits, bytes }) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  const levels = bits === 8 ? new Uint8Array(buffer) : new Uint16Array(buffer);
  const top = 2 ** bits - 2;
  const values = Float32Array.from(levels, (l) => (l > top ? NaN : low + (l / top) * (high - low)));
  const strides = shape.map((_, k) => shape.slice(k + 1).reduce((a, b) => a * b, 1));
  const at = (...index) => {
    const start = index.reduce((sum, i, k) => sum + i * strides[k], 0);
    return index.length === shape.length ? values[start] : values.subarray(start, start + strides[index.length - 1]);
  };
  return { shape, values, at };
}

// The same of everything in `data` that is packed.
async function unpacked(data) {
  if (data?.bytes && data.shape) return unpack(data);
  if (Array.isArray(data)) return Promise.all(data.map(unpacked));
  if (data?.constructor !== Object) return data;
  return Object.fromEntries(await Promise.all(Object.entries(data).map(async ([k, v]) => [k, await unpacked(v)])));
}

const number = (value, digits = 2) => (Number.isFinite(value) ? value.toFixed(digits).replace("-", "\u2212") : "none");
const withInterval = (value, low, high, n) =>
  number(value) + (Number.isFinite(low) ? ` (95 % interval ${number(low)} to ${number(high)})` : "") + (n ? `, n = ${n}` : "");
// A text in lines of at most so many characters, broken between words.
const wrapped = (text, most) => text.split(" ").reduce((lines, word) => {
  const last = lines.at(-1);
  return last !== undefined && last.length + word.length < most ? [...lines.slice(0, -1), `${last} ${word}`] : [...lines, word];
}, []);
const headName = ([layer, head]) => `L${layer}H${head}`;
const kind = (role) => role.replace(/\d$/, "").replace("special", "filler"); // of a text role
const roleName = (role) => ({ special: "end of text" })[role] ?? role.replace("color", "colour").replace(/(\d)$/, " $1");
const roleColor = (role) => `var(--${kind(role)})`;

// What a figure is drawn with: view.data, view.chosen, choose({...}), width(), says(text), tip(...), and its elements.
class View {
  constructor(model, el, data) {
    Object.assign(this, { model, data, chosen: { ...model.get("chosen") } });
    this.root = d3.select(el).append("div").attr("class", "explorable").attr("role", "group").attr("aria-label", model.get("alt"));
    this.controls = this.root.append("div").attr("class", "controls");
    this.line = this.root.append("p").attr("class", "says").attr("aria-live", "polite");
    this.stage = this.root.append("div").attr("class", "stage");
    this.bubble = this.root.append("div").attr("class", "tip").attr("role", "tooltip");
    this.settled = []; // controls' own updates
  }
  get width() { return this.root.node().clientWidth; }
  get narrow() { return this.width < 560; }
  ease(selection, ms = 500) { return selection.transition().duration(REDUCED.matches ? 0 : ms).ease(d3.easeCubicInOut); }
  says(text) { this.line.text(text); }
  choose(changes) {
    Object.assign(this.chosen, changes);
    this.model.set("chosen", { ...this.chosen });
    this.model.save_changes();
    this.update();
  }
  update() {
    this.settled.forEach((settle) => settle());
    if (this.width) this.draw();
  }
  // A question to the kernel, answered by the widget's `answer`; null without a kernel.
  ask(question, wait = 60000) { return answered(this.model, question, "answer", wait); }
  // A prompt of the reader's own and a seed, for which the kernel draws; hidden without a kernel.
  asks(prompt) {
    const form = this.root.insert("form", ".says").attr("class", "controls live");
    const text = form.append("label").text("own prompt ").append("input").attr("type", "text").attr("size", 38).property("value", prompt);
    const seed = form.append("label").text("seed ").append("input").attr("type", "text").attr("size", 4).property("value", "0");
    const button = form.append("button").text("Draw");
    form.on("submit", async (event) => {
      event.preventDefault();
      button.property("disabled", true).text("Drawing \u2026");
      const answer = await this.ask({ prompt: text.property("value"), seed: seed.property("value") });
      button.property("disabled", false).text("Draw");
      if (answer?.error) this.says(answer.error);
    });
  }

  // Hover and keyboard focus tell text(datum); an element that is told is named by it.
  told(selection, text, role = "img") {
    const show = (event, datum) => {
      const [box, at] = [this.root.node().getBoundingClientRect(), event.currentTarget.getBoundingClientRect()];
      this.bubble.text(text(datum)).style("visibility", "visible");
      const tip = this.bubble.node();
      const left = Math.max(0, Math.min(at.x + at.width / 2 - box.x - tip.offsetWidth / 2, box.width - tip.offsetWidth));
      const above = at.y - box.y - tip.offsetHeight - 8;
      this.bubble.style("left", `${left}px`).style("top", `${above > 0 ? above : at.bottom - box.y + 8}px`);
    };
    if (selection.size() < 200) selection.attr("aria-label", text); // many are named when they are reached
    return selection
      .attr("role", role)
      .on("pointerenter.told focus.told", (event, datum) => {
        event.currentTarget.setAttribute("aria-label", text(datum));
        show(event, datum);
      })
      .on("pointerleave.told blur.told", () => this.bubble.style("visibility", "hidden"));
  }
  // Of a table of elements, row by row, one is a stop of the Tab key, and arrows move the focus from there.
  roving(selection, columns, first = 0) {
    const nodes = selection.nodes(), at = Math.max(0, nodes.indexOf(document.activeElement)) || first;
    selection.attr("tabindex", (_, k) => (k === at ? 0 : -1)).on("keydown.rove", (event) => {
      const move = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
      const here = nodes.indexOf(event.currentTarget), next = nodes[here + move];
      if (!move) return;
      event.preventDefault();
      if (!next) return;
      nodes[here].setAttribute("tabindex", -1);
      next.setAttribute("tabindex", 0);
      next.focus();
    });
  }
  // An element that click, Enter and Space choose.
  pressed(selection, act) {
    return selection.classed("clickable", true).on("click.press", act).on("keydown.press", (event, datum) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      act.call(event.currentTarget, event, datum);
    });
  }

  // Buttons of which one is down: options are [value, text].
  segments(name, label, options, parent = this.controls) {
    const set = parent.append("fieldset").attr("role", "radiogroup").attr("aria-label", label);
    set.append("span").text(label);
    const buttons = set.append("div").attr("class", "segments").selectAll("button").data(options).join("button")
      .attr("type", "button").attr("role", "radio").text((o) => o[1])
      .on("click", (_, o) => this.choose({ [name]: o[0] }))
      .on("keydown", (event) => {
        const move = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
        if (!move) return;
        event.preventDefault();
        const k = options.findIndex((o) => o[0] === this.chosen[name]) + move;
        this.choose({ [name]: options[(k + options.length) % options.length][0] });
        buttons.filter((o) => o[0] === this.chosen[name]).node().focus();
      });
    this.settled.push(() => buttons.attr("aria-checked", (o) => o[0] === this.chosen[name])
      .attr("tabindex", (o) => (o[0] === this.chosen[name] ? 0 : -1)));
    return set;
  }
  menu(name, label, options, parent = this.controls) {
    const box = parent.append("label").text(`${label} `);
    const select = box.append("select").on("change", (event) => this.choose({ [name]: options[event.target.selectedIndex][0] }));
    select.selectAll("option").data(options).join("option").text((o) => o[1]);
    this.settled.push(() => select.property("selectedIndex", options.findIndex((o) => o[0] === this.chosen[name])));
    return box;
  }
  slider(name, label, count, text, parent = this.controls) {
    const box = parent.append("label").text(`${label} `);
    const input = box.append("input").attr("type", "range").attr("min", 0).attr("max", count - 1)
      .on("input", (event) => { this.stop?.(); this.choose({ [name]: +event.target.value }); });
    const shown = box.append("output");
    this.settled.push(() => {
      input.property("value", this.chosen[name]).attr("aria-valuetext", text(this.chosen[name]));
      shown.text(text(this.chosen[name]));
    });
    return box;
  }
  // Play and pause: tick(frame) is called until it returns false; wait(frame) is how long a frame stands.
  player(tick, wait, parent = this.controls) {
    const button = parent.append("button").attr("type", "button").attr("class", "play");
    let timer = null, frame = 0;
    const show = () => button.text(timer === null ? "\u25B6\uFE0E Play" : "\u275A\u275A Pause").attr("aria-pressed", timer !== null);
    const next = () => {
      if (!button.node().isConnected) return;
      timer = setTimeout(next, wait(frame));
      if (tick(frame++) === false) { frame = 0; this.stop(); }
    };
    this.stop = () => { clearTimeout(timer); timer = null; this.playing = false; show(); };
    button.on("click", () => {
      if (timer !== null) return this.stop();
      this.playing = true;
      next();
      show();
    });
    this.stop();
    return button;
  }

  // An SVG of the stage, or of a parent, that spans the width.
  svg(parent = this.stage) { return parent.append("svg").attr("width", "100%"); }

  // A grid layer x head of equal cells: fill(head) and opacity(head), told(head); the one at chosen[name] is framed.
  heads(g, { layers, heads, size, tall = size, fill, opacity, told, name = "head", label = "heads", each }) {
    g.attr("role", "grid").attr("aria-label", label).attr("data-name", name);
    const chosen = this.chosen[name], same = (d) => d[0] === chosen[0] && d[1] === chosen[1];
    const places = d3.cross(d3.range(layers), d3.range(heads));
    const cells = g.selectAll("g.head").data(places).join((enter) => {
      const cell = enter.append("g").attr("class", "head");
      cell.append("rect").attr("class", "ground").attr("fill", "var(--cell)");
      cell.append("rect").attr("class", "value");
      return cell;
    }).attr("transform", (d) => `translate(${d[1] * size},${d[0] * tall})`);
    cells.selectAll("rect").attr("width", size - 2).attr("height", tall - 2).attr("rx", 2);
    this.ease(cells.select("rect.value").attr("fill", fill), 250).attr("fill-opacity", opacity);
    this.told(cells, told, "gridcell").attr("aria-selected", same);
    this.pressed(cells, (_, d) => this.choose({ [name]: d }));
    this.roving(cells, heads, chosen[0] * heads + chosen[1]);
    if (each) cells.each(each);
    g.selectAll("rect.frame").data([chosen]).join("rect").attr("class", "frame").attr("fill", "none").attr("pointer-events", "none")
      .attr("stroke", "var(--accent)").attr("stroke-width", 2.5).attr("rx", 3).attr("x", (d) => d[1] * size - 1.5)
      .attr("y", (d) => d[0] * tall - 1.5).attr("width", size + 1).attr("height", tall + 1).raise();
    g.selectAll("text.layer").data(d3.range(layers)).join("text").attr("class", "layer small muted").attr("text-anchor", "end")
      .attr("x", -5).attr("y", (l) => l * tall + tall / 2 + 3).text((l) => `L${l}`);
    g.selectAll("text.column").data(d3.range(heads)).join("text").attr("class", "column small muted").attr("text-anchor", "middle")
      .attr("x", (h) => h * size + size / 2 - 1).attr("y", layers * tall + 11).text((h) => `H${h}`);
    return cells;
  }

  // One picture of a table of pictures, columns x rows, as a square.
  picture(g, href, { side, columns = 1, rows = 1, column = 0, row = 0 }) {
    const frame = g.selectAll("svg.picture").data([0]).join((enter) => {
      const made = enter.append("svg").attr("class", "picture").attr("viewBox", "0 0 1 1").attr("preserveAspectRatio", "none").style("overflow", "hidden");
      made.append("image").attr("preserveAspectRatio", "none").style("image-rendering", "pixelated");
      return made;
    }).attr("width", side).attr("height", side);
    frame.select("image").attr("href", href).attr("width", columns).attr("height", rows).attr("x", -column).attr("y", -row);
    return frame;
  }

  // Dots run along paths of the drawing.
  dots(paths) {
    if (REDUCED.matches) return;
    paths.each(function () {
      const long = this.getTotalLength(), place = (t) => this.getPointAtLength(t * long);
      for (const wait of [0, 330, 660])
        d3.select(this.parentNode).append("circle").attr("class", "dot").attr("r", 4).attr("fill", this.getAttribute("stroke")).attr("opacity", 0).attr("pointer-events", "none")
          .transition().delay(wait).duration(1100).ease(d3.easeLinear).attrTween("cx", () => (t) => place(t).x).attrTween("cy", () => (t) => place(t).y).attrTween("opacity", () => () => 1).remove();
    });
  }

  // A map over the image tokens, row by row: opacity of a fill, or, signed, of --here and --there.
  tokens(g, values, { side, fill, signed = false, scale = 1, told }) {
    const n = Math.round(Math.sqrt(values.length)), cell = side / n;
    g.selectAll("rect.back").data([0]).join("rect").attr("class", "back").attr("width", side).attr("height", side).attr("fill", "var(--cell)");
    const cells = g.selectAll("rect.token").data([...values]).join("rect").attr("class", "token")
      .attr("x", (_, i) => (i % n) * cell).attr("y", (_, i) => Math.floor(i / n) * cell).attr("width", cell + 0.3).attr("height", cell + 0.3)
      .attr("fill", (v) => (signed ? (v > 0 ? "var(--here)" : "var(--there)") : fill))
      .attr("fill-opacity", (v) => Math.min(1, Math.abs(v) / scale || 0));
    if (told) cells.on("pointerenter", (event, v) => told(v, cells.nodes().indexOf(event.currentTarget)));
    return cells;
  }

  // Outlines of both objects from their shares of the image tokens [object, token]: solid the first, dashed the second.
  outlines(g, shares, side) {
    const n = Math.round(Math.sqrt(shares.shape[1])), contour = d3.contours().size([n, n]);
    const scale = d3.geoPath(d3.geoTransform({ point(x, y) { this.stream.point((x * side) / n, (y * side) / n); } }));
    return g.selectAll("path.outline").data([0, 1]).join("path").attr("class", "outline").attr("fill", "none").attr("pointer-events", "none")
      .attr("stroke", "var(--ink)").attr("stroke-width", 1.6).attr("stroke-dasharray", (o) => (o ? "3 2.5" : null))
      .attr("d", (o) => scale(contour.contour([...shares.at(o)], 0.3)));
  }
}

async function render({ model, el }) {
  d3 ??= await loadD3(model);
  let view, width, live = false;
  async function build() {
    const data = await unpacked(model.get("data"));
    view?.stop?.();
    view?.root.remove();
    view = new View(model, el, data);
    view.root.classed("with-kernel", live);
    view.draw = figure(view);
    width = view.width;
    view.update();
    watch.disconnect();
    watch.observe(view.root.node());
  }
  const watch = new ResizeObserver(() => {
    if (view.width === width) return;
    width = view.width;
    view.update();
  });
  const chosen = () => {
    if (JSON.stringify(model.get("chosen")) === JSON.stringify(view.chosen)) return;
    view.chosen = { ...model.get("chosen") };
    view.update();
  };
  await build();
  model.on("change:data", build);
  model.on("change:chosen", chosen);
  answered(model, { hello: true }, "answer", 5000).then((here) => view.root.classed("with-kernel", (live = Boolean(here))));
  return () => {
    watch.disconnect();
    view.stop?.();
    model.off("change:data", build);
    model.off("change:chosen", chosen);
  };
}

export default { render };
