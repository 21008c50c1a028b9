// Figure 6. Per network, from top to bottom: the words and what the encoder fuses; where the relation
// heads look; the tag that they write, the heads that read it, the picture; and the proof.
const STAGES = ["words", "encoder", "relation", "tag", "objects", "picture", "proof"];
const [WORDS, ENCODER, LOOK, TAG, OBJECTS, PICTURE, PROOF] = STAGES.keys();

function figure(view) {
  const { networks } = view.data, steps = networks[0].parts[0].tags.shape[1];
  const flat = (values) => d3.max(values, Math.abs) < 0.05; // a head that writes the same everywhere
  const part = (network) => network.parts[Math.min(view.chosen.prompt, network.parts.length - 1)];
  const short = (network) => network.title.split(" (")[0];
  const quoted = (text) => `\u201C${text}\u201D`;
  const percent = (share) => `${Math.round(100 * share)} %`;
  const those = (heads) => (heads.length > 1 ? `the ${heads.length} heads` : headName(heads[0]));
  // Mean of a map over the places of an object.
  const over = ({ shares }, object, map) => d3.sum(shares.at(object), (s, i) => s * map[i]) / d3.sum(shares.at(object));

  view.player(tick, (frame) => (frame < PICTURE ? 3000 : frame < PICTURE + steps ? 230 : 3000));
  view.segments("stage", "", STAGES.map((text, k) => [k, `${k + 1} ${text}`]));
  view.menu("prompt", "prompt", networks[0].parts.map((p, k) => [k, p.prompt]));
  view.slider("step", "step", steps, (k) => `${k + 1} of ${steps}`);
  view.asks(view.data.prompt);
  // Play: part after part at the first step, then all steps, then the proof.
  function tick(frame) {
    if (frame < PICTURE) { view.choose({ stage: frame, step: 0 }); view.dots(svg.selectAll(`path.wire.of${frame}`)); }
    else if (frame < PICTURE + steps) view.choose({ stage: PICTURE, step: frame - PICTURE });
    else view.choose({ stage: PROOF });
    return frame < PICTURE + steps;
  }

  const svg = view.svg(), panels = svg.selectAll("g.network").data(networks).join("g").attr("class", "network");
  panels.each(function () { for (const name of ["title", "fusion", "words", "wires", "look", "tag", "objects", "picture", "proof"]) d3.select(this).append("g").attr("class", name); });

  return () => {
    const columns = view.narrow ? 1 : networks.length, gap = 34, wide = Math.min(400, (view.width - gap * (columns - 1)) / columns);
    const rows = d3.max(networks, (network) => part(network).words.length); // parts of neighbours stand level
    view.line.style("min-height", view.narrow ? "11.2em" : "5.6em");
    let bottom = 0;
    panels.each(function (network, k) {
      const g = d3.select(this).attr("transform", `translate(${(k % columns) * (wide + gap)},${columns === 1 ? bottom : 0})`), tall = drawNetwork(g, network, k, wide, columns > 1 ? rows : part(network).words.length);
      bottom = columns === 1 ? bottom + tall + 20 : Math.max(bottom, tall);
    });
    svg.attr("height", bottom);
    view.says(sentence());
  };

  // --- in words

  function sentence() {
    const { stage, step } = view.chosen, each = (text) => networks.map((network, k) => `${short(network)}: ${text(network, part(network), k)}`).join(" ");
    if (stage === WORDS) return `${quoted(part(networks[0]).prompt)} as both networks get it. Colours mark kinds of word; a solid bar stands at the words of object 1, a dashed one at those of object 2.`;
    if (stage === ENCODER) return each((network, { words }) => {
      if (!network.contextual) return "every word has a vector of its own, and the relation is told in its own words alone.";
      const [role, share] = d3.greatest(Object.entries(network.fusion).filter(([role]) => words.some((w) => w[1] === role)), (d) => d[1]);
      return `the encoder tells the relation in the objects\u2019 words, too. The thicker the arrow, the more of a word\u2019s vector is the relation, up to ${percent(share)} (${roleName(role)}).`;
    });
    if (stage === LOOK) return each((network, p) => `${network.heads.map((head, c) => {
      if (p.reads[c] === null) return `${headName(head)} looks at none of these words`;
      const map = p.maps.at(c, step, p.reads[c]), [a, b] = [0, 1].map((o) => over(p, o, map)), most = a > b ? 0 : 1, looks = `${headName(head)} looks at ${quoted(p.words[p.reads[c]][0])}`;
      return Math.abs(a - b) < 0.05 ? `${looks} from both objects\u2019 places alike (${number(a)} of its attention)` : `${looks} most where object ${most + 1} will be (${number(Math.max(a, b))} of its attention there, ${number(Math.min(a, b))} at object ${2 - most}\u2019s places)`;
    }).join("; ")}.`);
    if (stage === TAG) return `What the head writes where it looks is a tag: teal says \u201Cobject 1 here\u201D, pink \u201Cobject 2 here\u201D. Its direction is the difference between both objects\u2019 places in the picture of the opposite prompt, so nothing of this picture is in it.`;
    if (stage === OBJECTS) return each((_, p) => `${p.objects.map((o, i) => `${headName(o.head)} looks at ${quoted(p.words[o.word][0])} from object ${i + 1}\u2019s places (${number(o.looks[0])}), not from object ${2 - i}\u2019s (${number(o.looks[1])})`).join("; ")}.`);
    if (stage === PICTURE) return `Step ${step + 1} of ${steps}: what the network takes the finished picture to be. Where the objects go is settled within the first steps; outlines are those of the finished objects.`;
    return each((network) => {
      const count = (change, shows) => network.parts.filter((p) => p.proof[change][1] === shows).length, n = network.parts.length, out = those(network.heads);
      return `without ${out}, ${count(1, 1)} of ${n} prompts keep their relation; with the output of ${out} from the opposite prompt ${count(2, -1)} of ${n} show the opposite one.`;
    });
  }

  // --- drawing

  function drawNetwork(g, network, k, wide, rows) {
    const { stage, step } = view.chosen, p = part(network), { heads } = network, name = `head${k}`, chosen = Math.min(view.chosen[name], heads.length - 1);
    const count = p.words.length, row = 26, map = 22, top = 82, wordWide = 70, encoderX = wordWide + 4, encoderWide = 54, headsX = encoderX + encoderWide + 6;
    const column = Math.min(84, (wide - headsX) / heads.length), middle = (w) => top + w * row + row / 2, foot = top + rows * row;
    const reached = (from) => (stage >= from ? 1 : 0.1);
    const lines = (parent, cls, data) => parent.selectAll(`text.${cls}`).data(data).join("text").attr("class", (d) => `${cls} ${d[3] ?? "small"}`).attr("x", (d) => d[0]).attr("y", (d) => d[1]).attr("text-anchor", (d) => d[4] ?? "middle").style("fill", (d) => d[5] ?? null).text((d) => d[2]);
    const layer = (cls, from) => { const part = g.select(`g.${cls}`); view.ease(part, 400).attr("opacity", reached(from)); return part; };

    const [encoder, run] = network.title.split(" (");
    lines(g.select("g.title"), "name", [[0, 14, encoder, "strong", "start"], [0, 29, run ? run.replace(")", "") : "", "small muted", "start"]]);

    // Words.
    const words = g.select("g.words");
    lines(words, "heading", [[0, 74, "words", "small strong", "start"]]);
    lines(words, "word", p.words.map(([word, role], w) => [8, middle(w) + 4, word, "strong", "start", roleColor(role)]));
    words.selectAll("path").data(p.words).join("path").attr("stroke", (d) => roleColor(d[1])).attr("stroke-width", 3).attr("stroke-dasharray", (d) => (d[1].endsWith("2") ? "4 3" : null)).attr("d", (_, w) => `M2,${middle(w) - 9}v18`);

    // What the encoder fuses: arrows from the relation into the objects' words, or every word by itself.
    const fusion = layer("fusion", ENCODER), told = d3.range(count).filter((w) => p.words[w][1] === "relation"), from = d3.mean(told, middle);
    const shares = network.contextual ? d3.range(count).filter((w) => network.fusion[p.words[w][1]] !== undefined) : d3.range(count);
    const share = (w) => network.fusion[p.words[w][1]], near = encoderX + 10, far = encoderX + encoderWide - 2;
    lines(fusion, "heading", [[encoderX + encoderWide / 2, 60, "encoder", "small strong"], [encoderX + encoderWide / 2, 74, network.contextual ? "fuses" : "apart", "small muted"]]);
    const arrows = fusion.selectAll("g.arrow").data(shares).join((enter) => { const a = enter.append("g").attr("class", "arrow"); a.append("path").attr("class", "wire of1"); a.append("path").attr("class", "tip-of"); return a; });
    arrows.select("path.wire").attr("fill", "none").attr("stroke", (w) => (network.contextual ? "var(--relation)" : roleColor(p.words[w][1]))).attr("stroke-opacity", 0.75).attr("stroke-width", (w) => (network.contextual ? 0.8 + 20 * share(w) : 1.6))
      .attr("d", (w) => (network.contextual ? `M${encoderX},${from}C${far},${from} ${far},${middle(w)} ${near},${middle(w)}` : `M${encoderX},${middle(w)}H${far - 6}`));
    arrows.select("path.tip-of").attr("fill", (w) => (network.contextual ? "var(--relation)" : roleColor(p.words[w][1])))
      .attr("d", (w) => { const s = network.contextual ? 4 + 8 * share(w) : 4; return network.contextual ? `M${encoderX},${middle(w)}l${s + 5},${-s}v${2 * s}z` : `M${far},${middle(w)}l-8,-4v8z`; });
    view.told(arrows, (w) => (network.contextual ? `The relation is ${percent(share(w))} of the variance of the vectors of ${roleName(p.words[w][1])} (here ${quoted(p.words[w][0])}) after the caption MLP: partial R\u00B2, n = 264 prompts`
      : `The vector of ${quoted(p.words[w][0])} is the same in every prompt, but for its place`));
    view.roving(arrows, 1);

    // Where the relation heads look, word by word.
    const look = layer("look", LOOK), at = (c) => headsX + c * column + column / 2, reads = (c) => p.words[p.reads[c]] ?? ["no word", "filler"];
    const picks = look.selectAll("g.pick").data(d3.range(heads.length)).join((enter) => { const b = enter.append("g").attr("class", "pick"); b.append("rect"); b.append("text").attr("class", "strong"); b.append("text").attr("class", "reads small"); return b; })
      .attr("transform", (c) => `translate(${at(c)},44)`);
    picks.select("rect").attr("x", -column / 2 + 2).attr("width", column - 4).attr("height", 36).attr("rx", 5).attr("fill", "var(--cell)").attr("stroke", (c) => (c === chosen ? "var(--accent)" : "var(--line)")).attr("stroke-width", (c) => (c === chosen ? 2 : 1));
    picks.select("text.strong").attr("text-anchor", "middle").attr("y", 15).text((c) => headName(heads[c]));
    picks.select("text.reads").attr("text-anchor", "middle").attr("y", 30).style("fill", (c) => roleColor(reads(c)[1])).text((c) => (column < 76 ? reads(c)[0] : `reads ${reads(c)[0]}`));
    view.told(picks, (c) => `Head ${headName(heads[c])} ${p.reads[c] === null ? "looks at none of these words" : `reads ${quoted(reads(c)[0])}, the word that it looks at most from the objects\u2019 places`}. Press to see the tag that it writes.`, "button").attr("aria-pressed", (c) => c === chosen);
    view.pressed(picks, (_, c) => view.choose({ [name]: c }));
    view.roving(picks, heads.length, chosen);
    const cells = look.selectAll("g.cell").data(d3.cross(d3.range(count), d3.range(heads.length))).join("g").attr("class", "cell").attr("transform", ([w, c]) => `translate(${at(c) - map / 2},${middle(w) - map / 2})`);
    cells.each(function ([w, c]) {
      const cell = d3.select(this);
      view.tokens(cell, p.maps.at(c, step, w), { side: map, fill: roleColor(p.words[w][1]) });
      cell.selectAll("rect.frame").data([0]).join("rect").attr("class", "frame").attr("x", -1.5).attr("y", -1.5).attr("width", map + 3).attr("height", map + 3).attr("rx", 2).attr("fill", "none").attr("stroke", w === p.reads[c] ? "var(--accent)" : "none").attr("stroke-width", 1.8);
    });
    view.told(cells, ([w, c]) => { const [a, b] = [0, 1].map((o) => number(over(p, o, p.maps.at(c, step, w)))); return `${headName(heads[c])}, ${quoted(p.words[w][0])}, step ${step + 1}: ${a} of the attention of object 1\u2019s places, ${b} of object 2\u2019s (one picture)`; });
    view.roving(cells, heads.length);

    // The tag, the object heads, the picture.
    const tile = Math.min(76, (wide - 48) / 4), space = (wide - 4 * tile) / 3, y = foot + 66, x = (i) => i * (tile + space);
    const tag = layer("tag", TAG).attr("transform", `translate(${x(0)},${y})`), values = p.tags.at(chosen, step);
    const above = (parent, one, two, color) => lines(parent, "above", [[tile / 2, -20, one, "small strong"], [tile / 2, -7, two, "small", "middle", color]]);
    view.tokens(tag, values, { side: tile, signed: true });
    view.outlines(tag, p.shares, tile);
    above(tag, headName(heads[chosen]), flat(values) ? "alike everywhere" : "writes the tag");
    view.told(tag, () => { const [a, b] = [0, 1].map((o) => number(p.peak * over(p, o, values), 1)); return `What ${headName(heads[chosen])} writes along its tag at step ${step + 1}: ${a} at object 1\u2019s places, ${b} at object 2\u2019s (length in the residual stream, less the mean over the picture; one picture)`; }).attr("tabindex", 0);
    const objects = layer("objects", OBJECTS).selectAll("g.object").data(p.objects).join("g").attr("class", "object").attr("transform", (_, i) => `translate(${x(i + 1)},${y})`);
    objects.each(function (o, i) {
      const one = d3.select(this), [word, role] = p.words[o.word];
      view.tokens(one, p.looks.at(i, step), { side: tile, fill: roleColor(role) });
      view.outlines(one, p.shares, tile);
      above(one, headName(o.head), `reads ${word}`, roleColor(role));
    });
    view.told(objects, (o) => { const [a, b] = [0, 1].map((i) => number(over(p, i, p.looks.at(p.objects.indexOf(o), step)))); return `${headName(o.head)}, ${quoted(p.words[o.word][0])}, step ${step + 1}: ${a} of the attention of object 1\u2019s places, ${b} of object 2\u2019s (one picture); mean over the steps at its own places ${number(o.looks[0])}, at the other\u2019s ${number(o.looks[1])}`; }).attr("tabindex", 0);
    const picture = layer("picture", PICTURE).attr("transform", `translate(${x(3)},${y})`);
    view.picture(picture, p.frames, { side: tile, columns: steps, column: step });
    above(picture, "picture", `step ${step + 1}`);
    view.told(picture, () => `The finished picture as predicted at step ${step + 1} of ${steps}`).attr("tabindex", 0);

    // How they follow from each other, and how to read them.
    const wires = g.select("g.wires"), line = y + tile / 2, arrow = (a, b) => `M${a + 2},${line}H${b - 3}M${b - 7},${line - 4}l4,4l-4,4`;
    const paths = [
      ...d3.range(heads.length).filter((c) => p.reads[c] !== null).map((c) => [LOOK, `M${headsX - 8},${middle(p.reads[c])}H${at(c) - map / 2 - 3}`]),
      [TAG, `M${at(chosen)},${foot}V${foot + 14}H${tile / 2}V${y - 34}m-4,-5l4,5l4,-5`],
      [OBJECTS, arrow(tile, x(1))], [OBJECTS, arrow(x(1) + tile, x(2))], [PICTURE, arrow(x(2) + tile, x(3))],
    ];
    wires.selectAll("path").data(paths).join("path").attr("class", (d) => `wire of${d[0]}`).attr("fill", "none").attr("stroke", "var(--muted)").attr("stroke-width", 1.6).attr("d", (d) => d[1]).attr("opacity", (d) => reached(d[0]));
    const legend = y + tile + 20, key = wide / 2;
    lines(tag, "key", [[24, legend - y + 4, "object 1 here", "small", "start"], [key + 24, legend - y + 4, "object 2 here", "small", "start"]]);
    tag.selectAll("path.key").data([0, 1]).join("path").attr("class", "key").attr("stroke", "var(--ink)").attr("stroke-width", 1.6).attr("stroke-dasharray", (o) => (o ? "3 2.5" : null)).attr("fill", (o) => (o ? "var(--there)" : "var(--here)")).attr("fill-opacity", 0.75)
      .attr("d", (o) => `M${o * key + 2},${legend - y - 6}h14v12h-14z`);

    return drawProof(layer("proof", PROOF).attr("transform", `translate(0,${legend + 38})`), network, p, wide, lines) + legend + 38;
  }

  // The same noise as it is, without the relation heads, and with their output from the opposite prompt.
  function drawProof(g, network, p, wide, lines) {
    const size = Math.min(104, (wide - 24) / 3), space = (wide - 3 * size) / 2, fits = size / 6.2, out = those(network.heads);
    const titles = ["as it is", `without ${out}`, `with ${out} as for ${quoted(p.opposite)}`].map((text) => wrapped(text, fits)), top = 12 + 14 * Math.max(3, d3.max(titles, (t) => t.length));
    const verdicts = p.proof.map(([text, shows]) => [shows > 0 ? "\u2713 as asked" : shows ? "\u21C4 the opposite" : "\u2717 neither", ...wrapped(text, size / 5.6)]);
    lines(g, "heading", [[0, 0, "The proof, from the same noise", "strong", "start"]]);
    const tiles = g.selectAll("g.tile").data(d3.range(3)).join("g").attr("class", "tile").attr("transform", (i) => `translate(${i * (size + space)},${top})`);
    tiles.each(function (i) {
      const one = d3.select(this);
      view.picture(one, p.pictures, { side: size, columns: 3, column: i });
      lines(one, "above", titles[i].map((text, n) => [0, -6 - 14 * (titles[i].length - 1 - n), text, "small strong", "start"]));
      lines(one, "verdict", verdicts[i].map((text, n) => [0, size + 15 + 14 * n, text, n ? "small" : "small strong", "start"]));
    });
    view.told(tiles, (i) => {
      const [text, shows] = p.proof[i], n = network.parts.length, right = network.parts.filter((part) => part.proof[i][1] === 1).length, turned = network.parts.filter((part) => part.proof[i][1] === -1).length;
      return `${["As it is", `With ${out} at the mean output over these prompts and their opposites`, `With the output of ${out} from ${quoted(p.opposite)}`][i]}: ${text}, ${shows > 0 ? "as the prompt says" : shows ? "the opposite of the prompt" : "neither the prompt\u2019s relation nor the opposite one"}. Of ${n} prompts, one picture each, ${right} show their relation, ${turned} the opposite one`;
    });
    view.roving(tiles, 3);
    return top + size + 20 + 14 * d3.max(verdicts, (v) => v.length);
  }
}
