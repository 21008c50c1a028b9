// The network in the page: left what the reader changes, right the pictures before and after, from the same noise.
const SIDES = ["as trained", "with your changes"];
const METRICS = [["color", "colours"], ["shape", "shapes"], ["binding", "binding"], ["relation_loose", "relation"]];

// Where `make book` puts what a network needs, and where JupyterLab serves it if it was started in the checkout.
function places() {
  const lab = JSON.parse(document.getElementById("jupyter-config-data")?.textContent ?? "{}").baseUrl;
  return [globalThis.relcoreLive, `${document.documentElement.dataset.content_root ?? ""}_static/live/`, lab && `${lab}files/book/vendor/live/`].filter(Boolean);
}
const script = (url) => new Promise((resolve, reject) => {
  const tag = Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject });
  document.head.append(tag);
});
// The sizes of the files there, and the place; null where there are none.
let found;
const sizes = () => (found ??= (async () => {
  for (const place of places())
    try { await script(`${place}sizes.js`); return { place, bytes: globalThis.relcoreSizes }; } catch { /* the next */ }
  return null;
})());
const RUNTIME = ["ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"]; // both in ort.js
async function part(place, file, names) {
  if (!names.every((name) => globalThis.relcoreParts?.[name])) await script(`${place}${file}.js`);
  return names.map((name) => globalThis.relcoreParts[name]);
}

function figure(view) {
  const { networks, tables, steps } = view.data, E = engine();
  const live = { state: "asking", loaded: null, net: null, id: 0, busy: false, refused: "", frames: [[], []], keys: [null, null], reads: [null, null] };
  const now = () => networks[view.chosen.network];
  const ready = () => live.state === "ready" && live.loaded === view.chosen.network;
  const refresh = () => view.update();

  // --- what stays

  const bench = view.stage.append("div").attr("class", "bench");
  const left = bench.append("div"), right = bench.append("div").attr("class", "shown");
  const section = (title, note) => {
    const set = left.append("fieldset");
    if (title) set.append("h4").text(title);
    if (note) set.append("p").attr("class", "muted").text(note);
    return set;
  };
  const top = section();
  if (networks.length > 1) view.segments("network", "Network", networks.map((network, k) => [k, network.title]), top);
  const fetching = top.append("div").attr("class", "line").style("margin-top", "8px");
  const fetch = fetching.append("button").attr("type", "button").attr("class", "fetch").on("click", load);
  const fetched = fetching.append("span").attr("class", "muted").attr("aria-live", "polite");

  const asked = section("Prompt");
  const line = asked.append("form").attr("class", "line").on("submit", (event) => { event.preventDefault(); ask(); });
  const typed = line.append("input").attr("type", "text").attr("aria-label", "prompt").attr("spellcheck", false).attr("autocomplete", "off").attr("maxlength", 200);
  const go = line.append("button").attr("type", "submit").text("Draw");
  const seeds = asked.append("label").attr("class", "line").style("margin-top", "6px").text("noise from seed ");
  const seed = seeds.append("input").attr("type", "number").attr("min", 0).attr("max", 2 ** 32 - 1)
    .on("change", (event) => view.choose({ seed: Math.min(2 ** 32 - 1, Math.max(0, Math.floor(+event.target.value) || 0)) }));
  seeds.append("button").attr("type", "button").text("another").on("click", (event) => { event.preventDefault(); view.choose({ seed: view.chosen.seed + 1 }); });
  const refused = asked.append("p").attr("class", "refused").attr("role", "alert");

  const spoken = section("Words", "Click a word to hide it from the network; below it, put another in its place.");
  const slots = spoken.append("div").attr("class", "line").style("align-items", "flex-start");

  const taken = section("Attention heads", "Switch heads off by their name. Click a map to see all that the head looks at.");
  view.segments("by", "off means", [["mean", "its average output"], ["zero", "nothing"]], taken).style("margin-bottom", "6px");
  const grid = taken.append("div").attr("class", "grid").attr("role", "group").attr("aria-label", "cross-attention heads, layer by head");
  const clear = section().append("button").attr("type", "button").text("Undo all changes")
    .on("click", () => view.choose({ off: [], hidden: [], changed: view.chosen.prompt }));

  const stuck = right.append("div").attr("class", "stuck");
  const pictures = stuck.append("div").attr("class", "pictures").selectAll("div.picture").data([0, 1]).join("div").attr("class", "picture");
  pictures.append("canvas").attr("role", "img");
  const captions = pictures.append("div").attr("class", "caption");
  captions.append("b").text((side) => SIDES[side]);
  captions.append("span").attr("class", "what muted");
  pictures.append("div").attr("class", "verdict").attr("aria-live", "polite");
  const time = stuck.append("div").attr("class", "line time");
  const run = time.append("button").attr("type", "button").attr("class", "play").on("click", () => { live.busy ? halt() : draw(true); refresh(); });
  // A drawing that was stopped before its first step has none.
  const slid = view.slider("step", "step", steps, (k) => (live.frames.some((side) => side.length) ? `${k + 1} of ${steps}` : "nothing drawn"), time);
  const attention = right.append("div").style("margin-top", "10px");
  attention.append("h4");
  view.segments("side", "in the picture", SIDES.map((text, side) => [side, text]), attention);
  attention.append("p").attr("class", "muted").text("Each map is the picture's 8 by 8 image tokens: the darker, the more of a token's attention this word gets. Click a word to see it in all heads.");
  const maps = attention.append("div").attr("class", "maps");

  // --- loading

  // The example, drawn beforehand, as if it had been drawn here.
  async function beforehand(network) {
    const prompt = E.parse(network.prompt, tables);
    network.frames = await Promise.all(network.example.map(async (src) => {
      const image = Object.assign(new Image(), { src });
      await image.decode();
      const size = image.naturalWidth, context = Object.assign(document.createElement("canvas"), { width: size, height: size }).getContext("2d");
      context.drawImage(image, 0, 0);
      return { prompt, size, pixels: context.getImageData(0, 0, size, size).data.filter((_, k) => k % 4 < 3) };
    }));
    refresh();
  }
  networks.forEach(beforehand);
  sizes().then((where) => { live.where = where; live.state = where ? "idle" : "absent"; refresh(); });
  const missing = (file) => (globalThis.relcoreParts?.[file === "ort" ? RUNTIME[1] : file] || live.worker && file === "ort" ? 0 : live.where?.bytes[`${file}.js`] ?? 0);
  const needed = () => missing("ort") + missing(now().part);

  async function load() {
    const chosen = view.chosen.network, { place } = live.where, { part: name } = networks[chosen];
    Object.assign(live, { state: "loading", loaded: null, busy: false, since: performance.now() });
    refresh();
    try {
      const runtime = live.worker ? null : await part(place, "ort", RUNTIME), [graph] = await part(place, name, [name]);
      if (!live.worker) {
        const text = `const E = (${engine})(); (${work})(E);`;
        live.worker = new Worker(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
        live.worker.onmessage = ({ data }) => heard(data);
        live.worker.onerror = (event) => heard({ failed: event.message });
        RUNTIME.forEach((file) => delete globalThis.relcoreParts[file]); // the worker has it
      }
      live.loading = chosen;
      live.worker.postMessage({ load: { runtime, part: graph } });
    } catch {
      heard({ failed: `${name}.js could not be loaded: make the book again` });
    }
  }
  function heard(data) {
    if (data.ready) {
      Object.assign(live, { state: "ready", loaded: live.loading, net: data.ready, keys: [null, null], frames: [[], []], took: performance.now() - live.since });
      view.root.attr("data-ready-ms", Math.round(live.took));
    } else if (data.failed) {
      if (!live.net) live.worker = live.worker?.terminate(); // it has no runtime: the next try starts anew
      Object.assign(live, { state: live.loaded === null ? "idle" : "ready", busy: false, refused: data.failed });
    } else if (data.id !== live.id) return; // of a drawing that has been given up
    else if (data.done) {
      live.busy = false;
      view.root.attr("data-drawn-ms", Math.round(data.ms));
    } else {
      live.frames[data.side][data.step] = { ...data, size: live.net.header.size, prompt: live.reads[data.side].prompt };
      if (live.follow) Object.assign(view.chosen, { step: data.step });
    }
    refresh();
  }

  // --- drawing

  // What is drawn at a side: prompt, hidden words and heads; null where the second has nothing to change.
  function wish(side) {
    const { network, prompt, changed, off, hidden, by, seed } = view.chosen;
    const plain = { network, seed, prompt, hidden: [], off: [], by: "" };
    if (!side) return plain;
    const with_ = { network, seed, prompt: changed, hidden, off, by: off.length ? by : "" };
    return JSON.stringify({ ...with_, by: "" }) === JSON.stringify(plain) ? null : with_;
  }
  // Prompt as read, its vectors and words; throws where it cannot be.
  function read(text) {
    const prompt = E.parse(text, tables), text_ = E.encoded(live.net, prompt, tables);
    if (!text_) throw new Error(`the page has no vectors of '${text}' for the contextual encoder, only those of the ${live.net.header.prompts.length - 1} training prompts, such as '${now().prompt}'`);
    return { prompt, ...text_, words: E.wordsOf(prompt, text_.roles) };
  }
  function halt() {
    live.worker.postMessage({ stop: true });
    Object.assign(live, { id: live.id + 1, busy: false }); // what is still on its way is of the past
  }
  function draw(again) {
    if (!ready()) return;
    const wishes = [0, 1].map(wish), keys = wishes.map((one) => JSON.stringify(one)), jobs = [];
    if (!again && keys.every((key, side) => key === live.keys[side])) return;
    live.refused = "";
    for (const side of [0, 1]) {
      const wanted = wishes[side]; // of a picture that was not finished, the rest is drawn, too
      if (!again && keys[side] === live.keys[side] && (!wanted || live.frames[side].length === steps)) continue;
      live.keys[side] = keys[side];
      live.frames[side] = [];
      live.reads[side] = null;
      if (!wanted) continue;
      try {
        const text = read(wanted.prompt);
        const hidden = new Set(wanted.hidden.flatMap((word) => text.words[word]?.[2] ?? []));
        if (hidden.size === text.roles.length) throw new Error("all words are hidden, and the network must look at something: show one again");
        live.reads[side] = text;
        jobs.push({ side, words: text.values, bias: text.roles.map((_, token) => (hidden.has(token) ? -Infinity : 0)), off: wanted.off, by: wanted.by });
      } catch (error) {
        live.refused = error.message;
      }
    }
    if (!jobs.length) return halt();
    Object.assign(live, { id: live.id + 1, busy: true, follow: true });
    live.worker.postMessage({ draw: { id: live.id, seed: view.chosen.seed, pictures: jobs, empty: E.encoded(live.net, { text: "" }, tables) } });
  }
  // Choose what asks for this prompt, if it can be read; else the pictures stay, and the reason is told.
  function choose(text, changes) {
    try {
      read(text);
      live.refused = "";
      view.choose(changes);
    } catch (error) {
      live.refused = error.message;
      refresh();
    }
  }
  function ask() {
    const text = typed.property("value");
    if (text === view.chosen.prompt) draw(true);
    choose(text, { prompt: text, changed: text, hidden: [] });
  }

  // --- what changes

  // The words as they are shown, from the page's own reading where the network is not there yet.
  function wordsNow() {
    const text = view.chosen.changed;
    try {
      const prompt = E.parse(text, tables), from = ready() ? E.encoded(live.net, prompt, tables) : null;
      return { prompt, words: E.wordsOf(prompt, from?.roles ?? [...prompt.spans.map((span) => span[2]), "special"]) };
    } catch { return { prompt: null, words: live.shownWords ?? [] }; }
  }
  function swap(prompt, role, text) {
    const spans = prompt.spans.filter((span) => span[2] === role), [start, end] = [spans[0][0], spans.at(-1)[1]];
    const changed = prompt.text.slice(0, start) + text + prompt.text.slice(end);
    choose(changed, { changed, hidden: text.split(" ").length === spans.length ? view.chosen.hidden : [] });
  }
  function showWords() {
    const { prompt, words } = wordsNow();
    live.shownWords = words;
    const groups = [];
    words.forEach(([word, role], k) => (groups.at(-1)?.role === role && role === "relation" ? groups.at(-1).words.push([word, k]) : groups.push({ role, words: [[word, k]] })));
    const options = { color: tables.colors, shape: tables.shapes, relation: tables.offered };
    const slot = slots.selectAll("div.slot").data(groups).join((enter) => {
      const one = enter.append("div").attr("class", "slot");
      one.append("div").attr("class", "chips");
      one.append("select");
      return one;
    }).style("--role", (d) => roleColor(d.role));
    slot.select("div.chips").selectAll("button").data((d) => d.words.map((word) => [...word, d.role])).join("button").attr("type", "button").attr("class", "chip")
      .text((d) => d[0]).attr("aria-pressed", (d) => view.chosen.hidden.includes(d[1])).attr("aria-label", (d) => `hide ${d[0]}`)
      .attr("title", (d) => `${roleName(d[2])}: click to hide or show`)
      .on("click", (_, d) => view.choose({ hidden: view.chosen.hidden.includes(d[1]) ? view.chosen.hidden.filter((k) => k !== d[1]) : [...view.chosen.hidden, d[1]].sort((a, b) => a - b) }));
    slot.select("select").style("display", (d) => (options[kind(d.role)] && prompt ? null : "none")).attr("aria-label", (d) => `another ${roleName(d.role)}`)
      .on("change", (event, d) => swap(prompt, d.role, event.target.value))
      .each(function (d) {
        const said = prompt?.spans.filter((span) => span[2] === d.role).map(([start, end]) => prompt.text.slice(start, end)).join(" ");
        const offered = options[kind(d.role)] ?? [];
        d3.select(this).selectAll("option").data(offered.includes(said) ? offered : [said, ...offered]).join("option").attr("value", (o) => o).text((o) => o);
        this.value = said;
      });
    return words;
  }

  function showHeads(words) {
    const [layers, heads] = now().shape, { off, head, side } = view.chosen, word = wordOf(words);
    const isOff = (d) => off.some((o) => o[0] === d[0] && o[1] === d[1]);
    const frame = shown(side);
    grid.classed("stacked", heads > 3).style("grid-template-columns", `auto repeat(${heads}, auto)`);
    grid.selectAll("span.layer").data(d3.range(layers)).join("span").attr("class", "layer").style("grid-row", (d) => d + 1).style("grid-column", 1).text((d) => `L${d}`);
    const cells = grid.selectAll("div.cell").data(d3.cross(d3.range(layers), d3.range(heads)), headName).join((enter) => {
      const cell = enter.append("div").attr("class", "cell");
      cell.append("button").attr("type", "button").attr("class", "map").append("svg").attr("width", 38).attr("height", 38).attr("aria-hidden", true);
      cell.append("button").attr("type", "button").attr("class", "switch").attr("role", "switch");
      return cell;
    }).style("grid-row", (d) => d[0] + 1).style("grid-column", (d) => d[1] + 2);
    cells.select("button.map").attr("aria-label", (d) => `what ${headName(d)} looks at`).attr("aria-pressed", (d) => d[0] === head[0] && d[1] === head[1])
      .on("click", (_, d) => view.choose({ head: d }))
      .each(function (d) { view.tokens(d3.select(this).select("svg"), mapOf(frame, d, word), { side: 38, fill: words[word] ? roleColor(words[word][1]) : "none" }); });
    cells.select("button.switch").text((d) => `${headName(d)}${isOff(d) ? " off" : ""}`).attr("aria-checked", (d) => !isOff(d)).attr("aria-label", (d) => `head ${headName(d)} on`)
      .on("click", (_, d) => view.choose({ off: isOff(d) ? off.filter((o) => headName(o) !== headName(d)) : [...off, d].sort((a, b) => a[0] - b[0] || a[1] - b[1]) }));
  }

  // The word whose maps the heads show: the first of the relation until another is chosen.
  const wordOf = (words) => Math.min(view.chosen.word ?? words.findIndex((word) => word[1] === "relation"), words.length - 1);
  // The frame of a side at the chosen step, or the last one before it.
  const shown = (side) => (ready() ? live.frames[side][Math.min(view.chosen.step, live.frames[side].length - 1)] : now().frames?.[side]);
  function mapOf(frame, [layer, head], word) {
    const tokens = now().tokens, text = frame?.patterns && live.reads[frame.side], values = new Float32Array(tokens);
    if (!text) return values;
    const n = text.roles.length, from = (layer * now().shape[1] + head) * tokens * n;
    for (let i = 0; i < tokens; i++) for (const token of text.words[word]?.[2] ?? []) values[i] += frame.patterns[from + i * n + token] / 255;
    return values;
  }
  function showAttention() {
    const { head, side } = view.chosen, words = live.reads[side]?.words ?? [], frame = shown(side), word = wordOf(words);
    attention.style("display", ready() ? null : "none");
    attention.select("h4").text(`What head ${headName(head)} looks at, step ${Math.min(view.chosen.step, Math.max(0, live.frames[side].length - 1)) + 1}`);
    const all = maps.selectAll("button").data(words).join((enter) => {
      const one = enter.append("button").attr("type", "button");
      one.append("svg").attr("width", 56).attr("height", 56).attr("aria-hidden", true);
      one.append("span");
      return one;
    }).style("--role", (d) => roleColor(d[1])).attr("aria-pressed", (_, k) => k === word).attr("aria-label", (d, k) => {
      const values = mapOf(frame, head, k);
      return `${d[0]}: ${Math.round((100 * d3.sum(values)) / values.length)} % of the attention`;
    }).on("click", (event) => view.choose({ word: maps.selectAll("button").nodes().indexOf(event.currentTarget) }));
    all.select("span").text((d) => d[0]);
    all.select("svg").each(function (d, k) { view.tokens(d3.select(this), mapOf(frame, head, k), { side: 56, fill: roleColor(d[1]) }); });
  }

  // What the scorer finds, in words.
  function verdict({ pixels, size, prompt }) {
    const objects = E.detect(pixels, size, tables), judged = E.score(objects, prompt, tables);
    const names = objects.map((o) => `${[...tables.colors, "?"].at(o.color)} ${[...tables.shapes, "?"].at(o.shape)}`);
    const [one, two] = [0, 1].map((k) => `${tables.colors[prompt.colors[k]] ?? "the"} ${tables.shapes[prompt.shapes[k]]}`);
    const seen = tables.relations[judged.seen], where = { above: "above", below: "below", left: "left of", right: "right of" }[seen] ?? `to the ${seen} of`;
    return { judged, said: judged.binding ? `${one} is ${where} ${two}` : names.length ? `found: ${names.join(", ")}` : "nothing found" };
  }
  function whatChanged() {
    const { prompt, changed, off, hidden, by } = view.chosen, words = live.shownWords ?? [];
    const parts = [];
    if (off.length) parts.push(`${off.map(headName).join(", ")} ${by === "mean" ? "off" : "off (zero)"}`);
    if (hidden.length) parts.push(`hidden: ${hidden.map((k) => words[k]?.[0]).join(", ")}`);
    if (changed !== prompt) parts.push(`\u201C${changed}\u201D`);
    return parts.join("; ") || "none yet: switch a head off or hide a word";
  }
  function showPictures() {
    const started = ready();
    pictures.classed("chosen", (side) => started && side === view.chosen.side).each(function (side) {
      const g = d3.select(this), frame = shown(side), box = g.select(".verdict").text(""), canvas = g.select("canvas").node();
      g.select("b").text(side && !started ? `without head ${headName(now().head)}` : SIDES[side]);
      g.select(".what").text(started && side ? whatChanged() : `\u201C${started ? view.chosen.prompt : now().prompt}\u201D`);
      const size = frame?.size ?? 1, context = Object.assign(canvas, { width: size, height: size }).getContext("2d");
      canvas.setAttribute("aria-label", `Picture ${SIDES[side]}`);
      if (!frame) {
        if (started && !live.busy && wish(side) && !live.refused) box.append("span").attr("class", "muted").text("Stopped before the first step: nothing was drawn.");
        return;
      }
      const data = context.createImageData(size, size);
      data.data.fill(255);
      frame.pixels.forEach((value, k) => { data.data[4 * Math.floor(k / 3) + (k % 3)] = value; });
      context.putImageData(data, 0, 0);
      if (frame.step < steps - 1) {
        box.append("span").attr("class", "muted").text(`The network\u2019s estimate of the finished picture at step ${frame.step + 1}.`);
        return;
      }
      const { judged, said } = verdict(frame);
      canvas.setAttribute("aria-label", `Picture ${SIDES[side]}: ${said}`);
      box.append("strong").classed("wrong", !judged.relation_loose).text(`${judged.relation_loose ? "\u2713" : "\u2717"} ${said}`);
      box.append("span").attr("class", "metrics muted").text(METRICS.map(([m, text]) => `${judged[m] ? "\u2713" : "\u2717"}\u00A0${text.replace(" ", "\u00A0")}`).join("  "));
    });
    run.text(live.busy ? "\u25A0\uFE0E Stop" : "\u25B6\uFE0E Draw again").attr("disabled", started ? null : true).attr("aria-label", live.busy ? "stop drawing" : "draw again");
    time.style("display", started ? null : "none");
    slid.select("input").on("pointerdown.live keydown.live", () => { live.follow = false; });
  }

  let network;
  return () => {
    if (network !== view.chosen.network) {
      network = view.chosen.network;
      const { prompt, seed, head } = now();
      Object.assign(view.chosen, { off: [head], head, hidden: [], prompt, changed: prompt, seed, word: null });
      live.refused = "";
      if (live.worker && !needed()) load();
    }
    draw(false);
    const mega = (needed() / 1e6).toFixed(1), waits = { asking: "", idle: "", loading: "Loading\u2026 the page stays usable.", ready: "", absent: "" }[live.state];
    fetch.style("display", ready() || live.state === "absent" ? "none" : null).attr("disabled", live.state === "idle" || live.state === "ready" ? null : true)
      .text(live.state === "loading" ? "Loading \u2026" : `\u25B6\uFE0E Run this network here${needed() ? ` (${mega} MB)` : ""}`);
    fetched.text(live.state === "absent" ? "The network is not beside this page: `make book` with Node.js and the extra \u201Cpage\u201D puts it there." : ready() ? "" : waits || "in your browser, on your own machine: then everything below answers");
    [asked, spoken, taken].forEach((set) => set.attr("disabled", ready() ? null : true));
    clear.attr("disabled", ready() && wish(1) ? null : true);
    if (live.typedFor !== view.chosen.prompt) typed.property("value", view.chosen.prompt);
    live.typedFor = view.chosen.prompt;
    seed.property("value", view.chosen.seed);
    refused.text(live.refused);
    showPictures();
    const words = showWords();
    showHeads(words);
    showAttention();
    view.says(ready() ? "Both pictures come from the same noise: left the network as it was trained, right with what you change. It is running in this page."
      : "The whole network can run in this page, without a server. Take its attention heads away, hide words from it, and watch what it draws. Here an example, drawn beforehand:");
  };
}
