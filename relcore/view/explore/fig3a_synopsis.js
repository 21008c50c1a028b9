// Figure 3a. Per network: (1) one head's map, image tokens by words; (2) its average by kinds of both;
// (3) that number for every head at every step; (4) its mean over the steps.
const STAGES = ["map", "kinds", "heads", "mean"];
const PLACES = ["object 1", "object 2", "background"];

function figure(view) {
  const { networks, roles } = view.data;
  const [layers, heads, steps] = networks[0].steps.shape;
  const columns = roles.map((role, k) => k).filter((k) => roles[k] !== "special");
  const masses = (network, [layer, head], step, place, role) => {
    const of = (k) => (step === null ? network.mean.at(0, layer, head, place, k) : network.steps.at(layer, head, step, place, k));
    return of(role) + (roles[role] === "filler" ? of(roles.indexOf("special")) : 0);
  };
  const named = (role) => (roles[role] === "filler" ? "other words" : `the ${roles[role] === "relation" ? "relation words" : `word of ${roleName(roles[role])}`}`);

  view.player(tick, (frame) => (frame < 4 ? [1600, 2400, 1800, 900][frame] : frame < 3 + steps ? 260 : 2600));
  view.segments("stage", "", STAGES.map((text, k) => [k, `${k + 1} ${text}`]));
  view.slider("step", "step", steps, (k) => `${k + 1} of ${steps}`);
  networks.forEach((network, k) => {
    const whose = networks.length > 1 ? `${network.title.split(" (")[0]}: ` : "";
    view.menu(`from${k}`, `${whose}from`, PLACES.map((text, i) => [i, text]));
    view.menu(`to${k}`, "to", columns.map((i) => [i, roles[i] === "filler" ? "other words" : roleName(roles[i])]));
  });
  view.asks(view.data.prompt);
  // Play: one map, its average, its number among the heads', then all steps, then their mean.
  function tick(frame) {
    if (frame < 3) view.choose({ stage: frame, step: 0 });
    else if (frame < 3 + steps) view.choose({ stage: 2, step: frame - 3 });
    else view.choose({ stage: 3 });
    return frame < 3 + steps;
  }

  const svg = view.svg();
  const panels = svg.selectAll("g.network").data(networks).join("g").attr("class", "network");
  panels.each(function (network, k) { setUp(d3.select(this), network, k); });
  let before = { stage: view.chosen.stage };

  function setUp(g, network) {
    const words = network.words.length, tokens = network.shares.shape[1];
    const weights = d3.range(3).map((place) => network.shares.at(place));
    network.kind = d3.range(tokens).map((t) => d3.maxIndex(weights.map((w) => w[t])));
    network.sorted = d3.sort(d3.range(tokens), (t) => network.kind[t]);
    network.rank = d3.range(tokens).map((t) => network.sorted.indexOf(t));
    // What (2) shows: this picture's average, as the kernel makes it.
    network.average = (map, place, role) => {
      let sum = 0;
      for (let t = 0; t < tokens; t++)
        for (let w = 0; w < words; w++)
          if (columnOf(network.words[w][1]) === role) sum += weights[place][t] * map[t * words + w];
      return sum / d3.sum(weights[place]);
    };
    for (const part of ["title", "picture", "overlay", "map", "table", "tensor", "grid"]) g.append("g").attr("class", part);
  }
  const columnOf = (role) => roles.indexOf(role === "special" ? "filler" : role);

  return () => {
    const narrow = view.narrow, gap = narrow ? 12 : 34, wide = (view.width - gap * (networks.length - 1)) / networks.length;
    let bottom = 0;
    panels.attr("transform", (_, k) => `translate(${k * (wide + gap)},0)`).each(function (network, k) {
      bottom = Math.max(bottom, drawNetwork(d3.select(this), network, k, Math.min(wide, 420), narrow));
    });
    svg.attr("height", bottom);
    before = { ...view.chosen };
    view.says(sentence());
  };

  function sentence() {
    const { stage, step } = view.chosen, [first] = networks, pair = (k) => [view.chosen[`from${k}`], view.chosen[`to${k}`]];
    const pairs = [...new Set(networks.map((_, k) => { const [from, to] = pair(k); return `${PLACES[from]} looks at ${named(to)}`; }))].join(", and how much ");
    if (stage === 0) return `Head ${headName(view.chosen.head0)} at step ${step + 1}: every row is one of the ${first.shares.shape[1]} image tokens, every column a word. The darker, the more of the token's attention the word gets; a row sums to 1.`;
    if (stage === 1) return `Its rows are sorted by what the finished picture shows there, its columns by their role, and averaged: one number says how much ${pairs}.`;
    if (stage === 2) return `The same number, how much ${pairs}, for all ${layers * heads} heads (rows) as the picture forms (columns), averaged over ${networks.map((n) => n.n).join(" and ")} pictures.`;
    return networks.map((network, k) => {
      const [from, to] = pair(k), all = d3.cross(d3.range(layers), d3.range(heads)), most = d3.greatest(all, (d) => masses(network, d, null, from, to));
      const over = all.filter((d) => masses(network, d, null, from, to) > 0.5).length;
      return `${network.title}: ${over || "no"} head${over === 1 ? "" : "s"} of ${all.length} give${over === 1 ? "s" : ""} ${named(to)} more than half of ${PLACES[from]}'s attention; the most is ${number(masses(network, most, null, from, to))} (${headName(most)}).`;
    }).join(" ");
  }

  function drawNetwork(g, network, k, wide, narrow) {
    const { stage, step, [`from${k}`]: from, [`to${k}`]: to } = view.chosen, name = `head${k}`, head = view.chosen[name];
    const map = network.maps.at(head[0], head[1], step), words = network.words.length, tokens = network.shares.shape[1];
    const left = narrow ? 22 : 96, tile = narrow ? (wide - 8) / 2 : 84;
    const shown = (on) => (on ? 1 : 0.15);
    const heading = (part, text, x, y) => part.selectAll("text.heading").data([text]).join("text").attr("class", "heading strong").attr("x", x).attr("y", y).text((d) => d);

    // Title.
    const [encoder, run] = network.title.split(" (");
    g.select("g.title").selectAll("text.name").data([encoder, run ? run.replace(")", "") : ""]).join("text").attr("class", (_, i) => (i ? "name small muted" : "name strong"))
      .attr("y", (_, i) => 14 + 15 * i).text((d) => d);

    // That no head looks at the relation words; all networks leave room for it.
    const notes = networks.map((n) => (n.note ? wrapped(n.note, wide / 5.5) : [])), room = 15 * d3.max(notes, (n) => n.length);
    g.select("g.title").selectAll("text.note").data(notes[k]).join("text").attr("class", "note small").attr("y", (_, i) => 45 + 15 * i).text((d) => d);

    // The picture as predicted at this step, and the chosen head's attention in it.
    let y = (narrow ? 56 : 118) + room;
    heading(g.select("g.map"), "1 One map", 0, 50 + room);
    const picture = g.select("g.picture").attr("transform", `translate(0,${y})`);
    view.picture(picture, network.frames, { side: tile, columns: network.passes, column: step });
    view.outlines(picture, network.shares, tile);
    view.told(picture, () => `The picture as predicted at step ${step + 1}. Solid line: object 1, dashed: object 2.`);
    const overlay = g.select("g.overlay").attr("transform", narrow ? `translate(${tile + 8},${y})` : `translate(0,${y + tile + 8})`);
    const toWords = d3.range(tokens).map((t) => d3.sum(d3.range(words).filter((w) => columnOf(network.words[w][1]) === to), (w) => map[t * words + w]));
    view.tokens(overlay, toWords, { side: tile, fill: roleColor(roles[to]) });
    view.outlines(overlay, network.shares, tile);
    view.told(overlay, () => `Attention of each image token to ${named(to)}, head ${headName(head)}, step ${step + 1}.`);
    if (narrow) y += tile + 66;

    // (1) Image tokens by words.
    const tall = narrow ? 2 : 2.65, space = 5, cell = (wide - left - 14) / words, high = tokens * tall + 2 * space;
    const part = g.select("g.map"), sorted = stage > 0;
    // Sorted, the few tokens of the objects get half of the height.
    const counts = d3.range(3).map((p) => d3.count(network.kind, (k) => k === p || NaN));
    const heights = counts.map((n, p) => Math.min(9, ((p < 2 ? 0.25 : 0) * tokens * tall) / n || 0));
    heights[2] = (tokens * tall - heights[0] * counts[0] - heights[1] * counts[1]) / (counts[2] || 1);
    const starts = [0, counts[0] * heights[0] + space, counts[0] * heights[0] + counts[1] * heights[1] + 2 * space];
    const place = (t) => (sorted ? starts[network.kind[t]] + (network.rank[t] - d3.sum(counts.slice(0, network.kind[t]))) * heights[network.kind[t]] : t * tall + space);
    const stretch = (t) => (sorted ? heights[network.kind[t]] / tall : 1);
    part.selectAll("g.words").data([0]).join("g").attr("class", "words").selectAll("text").data(network.words).join("text").attr("class", "small")
      .attr("transform", (_, w) => `translate(${left + (w + 0.5) * cell + 3},${y - 6}) rotate(-58)`).style("fill", (d) => roleColor(d[1])).text((d) => d[0]);
    const rows = part.selectAll("g.place-row").data(d3.range(tokens)).join("g").attr("class", "place-row");
    view.ease(rows, before.stage === 0 && stage === 1 ? 1100 : 0).attr("transform", (t) => `translate(${left},${y + place(t)}) scale(1,${stretch(t)})`);
    const cells = rows.selectAll("rect").data((t) => d3.range(words).map((w) => [t, w])).join("rect").attr("width", cell - 1).attr("height", tall - 0.4)
      .attr("x", (d) => d[1] * cell).attr("fill", (d) => (map[d[0] * words + d[1]] < 0.03 ? "var(--cell)" : roleColor(network.words[d[1]][1])))
      .attr("fill-opacity", (d) => (map[d[0] * words + d[1]] < 0.03 ? 1 : map[d[0] * words + d[1]]));
    view.told(cells, ([t, w]) => `A token of ${PLACES[network.kind[t]]} (column ${(t % 8) + 1}, row ${Math.floor(t / 8) + 1}) gives ${number(map[t * words + w])} of its attention to "${network.words[w][0]}"`);
    view.roving(cells, words);
    // Brackets of the kinds of image token.
    const groups = d3.range(3).filter((p) => counts[p]);
    const marks = part.selectAll("path.kind").data(groups, (p) => p).join("path").attr("class", "kind").attr("fill", "none").attr("stroke", "var(--ink)").attr("stroke-width", 1.6)
      .attr("stroke-dasharray", (p) => ["none", "3 2.5", "1 3"][p]).attr("d", (p) => `M${left - 5},${y + starts[p]}v${counts[p] * heights[p] - 1}`);
    view.ease(marks, 600).attr("opacity", sorted ? 1 : 0);
    y += high + (narrow ? 92 : 84);

    // (2) The average by kinds.
    const table = g.select("g.table"), column = (wide - left - 14) / columns.length, row = narrow ? 16 : 18;
    heading(table, "2 Average by kind", 0, y - 64);
    const averages = d3.cross([0, 1, 2], columns).map(([p, r]) => ({ p, r, value: network.average(map, p, r) }));
    table.selectAll("text.role").data(columns).join("text").attr("class", "role small").attr("transform", (_, c) => `translate(${left + (c + 0.5) * column + 3},${y - 6}) rotate(-40)`)
      .style("fill", (r) => roleColor(roles[r])).text((r) => (roles[r] === "filler" ? "other" : roleName(roles[r])));
    const boxes = table.selectAll("rect.average").data(averages).join("rect").attr("class", "average").attr("x", (d) => left + columns.indexOf(d.r) * column).attr("y", (d) => y + d.p * row)
      .attr("width", column - 2).attr("height", row - 2).attr("rx", 2).attr("fill", (d) => (d.value < 0.03 ? "var(--cell)" : roleColor(roles[d.r]))).attr("fill-opacity", (d) => (d.value < 0.03 ? 1 : d.value))
      .attr("stroke", (d) => (d.p === from && d.r === to ? "var(--accent)" : "none")).attr("stroke-width", 2.5);
    view.told(boxes, (d) => `${PLACES[d.p]} to ${named(d.r)}: ${number(d.value)} in this picture at step ${step + 1}; ${number(masses(network, head, step, d.p, d.r))} on average over ${network.n} pictures`, "button");
    view.pressed(boxes, (_, d) => view.choose({ [`from${k}`]: d.p, [`to${k}`]: d.r }));
    view.roving(boxes, columns.length, from * columns.length + columns.indexOf(to));
    table.selectAll("text.place").data(PLACES).join("text").attr("class", "place small").attr("text-anchor", "end").attr("x", left - 14).attr("y", (_, p) => y + p * row + row / 2 + 3).text((d) => (narrow ? "" : d));
    table.selectAll("path.kind").data([0, 1, 2]).join("path").attr("class", "kind").attr("stroke", "var(--ink)").attr("stroke-width", 1.6)
      .attr("stroke-dasharray", (p) => ["none", "3 2.5", "1 3"][p]).attr("d", (p) => `M${left - 5},${y + p * row}v${row - 2}`);
    view.ease(table.selectAll("rect, path"), 600).delay(before.stage === 0 && stage === 1 && !REDUCED.matches ? 1500 : 0).attr("opacity", shown(stage > 0));
    if (before.stage === 0 && stage === 1 && !REDUCED.matches) collapse(part, rows, network, left, y, row);
    const [boxX, boxY] = [left + columns.indexOf(to) * column, y + from * row];
    y += 3 * row + 42;

    // (3) Every head at every step.
    const tensor = g.select("g.tensor"), rowTall = Math.max(2, Math.min(narrow ? 4 : 4.4, 170 / (layers * heads))), stepWide = Math.min(9, (narrow ? wide - 26 : 146) / steps);
    heading(tensor, "3 Every head and step", 0, y - 22);
    const at = (d) => [24 + d[2] * stepWide, y + (d[0] * heads + d[1]) * rowTall + d[0] * 3];
    const points = d3.cross(d3.cross(d3.range(layers), d3.range(heads)), d3.range(steps)).map(([h, s]) => [...h, s]);
    const bits = tensor.selectAll("rect.bit").data(points).join("rect").attr("class", "bit").attr("x", (d) => at(d)[0]).attr("y", (d) => at(d)[1])
      .attr("width", stepWide - 0.5).attr("height", rowTall - 0.5).attr("fill", (d) => (masses(network, d, d[2], from, to) < 0.03 ? "var(--cell)" : roleColor(roles[to])))
      .attr("fill-opacity", (d) => { const v = masses(network, d, d[2], from, to); return v < 0.03 ? 1 : v; });
    view.told(bits, (d) => `${headName(d)}, step ${d[2] + 1}: ${number(masses(network, d, d[2], from, to))} of ${PLACES[from]}'s attention goes to ${named(to)} (${network.n} pictures)`, "button");
    view.pressed(bits, (_, d) => view.choose({ [name]: [d[0], d[1]], step: d[2] }));
    view.roving(bits, steps, (head[0] * heads + head[1]) * steps + step);
    tensor.selectAll("text.layer").data(d3.range(layers)).join("text").attr("class", "layer small muted").attr("text-anchor", "end").attr("x", 19).attr("y", (l) => at([l, (heads - 1) / 2, 0])[1] + 6).text((l) => `L${l}`);
    const end = at([layers - 1, heads - 1, 0])[1] + rowTall;
    tensor.selectAll("text.axis").data([["step 1", 0, "start"], [`${steps}`, steps, "end"]]).join("text").attr("class", "axis small muted").attr("text-anchor", (d) => d[2]).attr("x", (d) => 24 + d[1] * stepWide).attr("y", end + 13).text((d) => d[0]);
    const [x, top] = at([...head, step]);
    tensor.selectAll("rect.frame").data([0]).join("rect").attr("class", "frame").attr("fill", "none").attr("stroke", "var(--accent)").attr("stroke-width", 2).attr("pointer-events", "none")
      .attr("width", stepWide + 1.5).attr("height", rowTall + 1.5).attr("x", x - 1).attr("y", top - 1).raise();
    view.ease(tensor.selectAll("rect"), 500).attr("opacity", shown(stage > 1));
    if (before.stage === 1 && stage === 2) fly(g, to, [boxX, boxY, column - 2, row - 2], [x, top, stepWide, rowTall]);

    // (4) The mean over the steps.
    const grid = g.select("g.grid"), right = narrow ? 24 : 24 + steps * stepWide + 42;
    const gridY = narrow ? end + 58 : y, size = Math.min(26, (wide - right) / heads, 170 / layers);
    heading(grid, "4 Mean over steps", right - 24, gridY - 22);
    view.heads(grid.selectAll("g.cells").data([0]).join("g").attr("class", "cells").attr("transform", `translate(${right},${gridY})`), {
      layers, heads, size, name, label: `heads of ${network.title}`, fill: roleColor(roles[to]),
      opacity: (d) => (stage > 2 ? masses(network, d, null, from, to) : 0),
      told: (d) => `${headName(d)}: ${PLACES[from]} to ${named(to)}, mean over the steps ` + (roles[to] === "filler" ? number(masses(network, d, null, from, to)) + `, n = ${network.n}`
        : withInterval(...[0, 1, 2].map((part) => network.mean.at(part, ...d, from, to)), network.n)),
    });
    if (before.stage === 2 && stage === 3) fold(tensor, bits, right, gridY, size);
    return Math.max(end, gridY + layers * size) + 24;
  }

  // The rows of each kind run together into their row of the table.
  function collapse(part, rows, network, left, y, row) {
    const ghosts = part.append("g").attr("pointer-events", "none");
    rows.each(function (t) {
      ghosts.append(() => this.cloneNode(true)).datum(t).selectAll("rect").attr("tabindex", null).attr("role", null).attr("aria-label", null);
    });
    ghosts.attr("opacity", 0).transition().delay(1100).duration(0).attr("opacity", 0.5);
    ghosts.selectChildren().transition().delay(1100).duration(800).attr("transform", (t) => `translate(${left},${y + network.kind[t] * row + row / 2}) scale(1,1)`);
    ghosts.transition("end").delay(1900).duration(300).attr("opacity", 0).remove();
  }
  // A number moves to its place.
  function fly(g, to, [x, y, w, h], [x2, y2, w2, h2]) {
    const moved = g.append("rect").attr("pointer-events", "none").attr("x", x).attr("y", y).attr("width", w).attr("height", h).attr("fill", roleColor(roles[to])).attr("stroke", "var(--accent)");
    view.ease(moved, 1000).attr("x", x2).attr("y", y2).attr("width", w2).attr("height", h2).remove();
  }
  // Every head's row of steps folds into its cell.
  function fold(tensor, bits, right, top, size) {
    const ghosts = tensor.append("g").attr("pointer-events", "none").attr("opacity", 0.6);
    bits.each(function (d) { ghosts.append(() => this.cloneNode(false)).datum(d).attr("tabindex", null).attr("role", null).attr("aria-label", null); });
    view.ease(ghosts.selectChildren(), 1000).attr("x", (d) => right + d[1] * size + (d[2] / steps) * (size - 2)).attr("y", (d) => top + d[0] * size).attr("height", size - 2).attr("width", (size - 2) / steps);
    ghosts.transition("end").delay(REDUCED.matches ? 0 : 1000).duration(300).attr("opacity", 0).remove();
  }
}
