// Figure 7. A compass of pictures: in the middle the prompt's own, around it each relation put into the words.
function figure(view) {
  const { networks, prompts, words, strengths, relations, directions, states } = view.data;
  const groups = (w) => (w === "relation" ? "relation words" : w.startsWith("color") ? "colour words" : w.startsWith("shape") ? "shape words" : w);
  view.player((frame) => { view.choose({ strength: frame % strengths.length }); return frame < strengths.length - 1; }, () => 1600);
  if (prompts.length > 1) view.menu("prompt", "prompt", prompts.map((p, k) => [k, p]));
  view.segments("words", "put into", words.map((w, k) => [k, groups(w)]));
  view.slider("strength", "strength", strengths.length, (k) => `${strengths[k]} \u00D7 v`);
  const svg = view.svg(), panels = svg.selectAll("g.network").data(networks).join("g").attr("class", "network");

  const SAYS = { own: "the prompt\u2019s own", none: "relation taken out", missing: "not both there", follows: "follows", "so before": "already so", unmoved: "unmoved", elsewhere: "elsewhere" };
  const state = (part, r) => states[part.outcomes[view.chosen.words][view.chosen.strength][r]];
  const places = (part, r) => part.places.at(view.chosen.words, view.chosen.strength, r);

  return () => {
    const { words: group, strength, prompt } = view.chosen, narrow = view.narrow, gap = 34, columns = narrow ? 1 : networks.length;
    const wide = (view.width - gap * (columns - 1)) / columns, cell = Math.min(wide / 3, 130), tile = cell - 8, row = cell + 34, high = 3 * row + 36;
    svg.attr("height", high * Math.ceil(networks.length / columns));
    panels.attr("transform", (_, k) => `translate(${(k % columns) * (wide + gap)},${narrow ? k * high : 0})`).each(function (network) {
      const g = d3.select(this), part = network.prompts[prompt], there = [...part.there.values];
      g.selectAll("text.name").data([network.title]).join("text").attr("class", "name strong").attr("y", 14).text((d) => d);
      const tiles = [...directions.map((d, r) => ({ r, d, at: places(part, r), name: relations[r] })), { r: null, d: [0, 0], at: there, name: "unedited" }];
      const boxes = g.selectAll("g.tile").data(tiles).join((enter) => {
        const box = enter.append("g").attr("class", "tile");
        box.append("g").attr("class", "film");
        for (const part of ["rect", "path", "text"]) box.append(part);
        box.append("text").attr("class", "state small");
        return box;
      }).attr("transform", (t) => `translate(${(t.d[0] + 1) * cell + 3},${(t.d[1] + 1) * row + 40})`);
      boxes.each(function (t) {
        const place = { columns: relations.length, rows: words.length * strengths.length, column: t.r, row: group * strengths.length + strength };
        view.picture(d3.select(this).select("g.film"), t.r === null ? part.plain : part.pictures, { side: tile, ...(t.r === null ? {} : place) });
      });
      const is = (t) => (t.r === null ? null : state(part, t.r)), right = (t) => is(t) === "follows";
      boxes.select("rect").attr("width", tile).attr("height", tile).attr("fill", "none").attr("stroke-width", (t) => (right(t) ? 4 : 1.5)).attr("stroke", (t) => (right(t) ? "var(--relation)" : "var(--line)"));
      boxes.select("path").attr("stroke", "white").attr("stroke-width", 2).attr("fill", "none").attr("pointer-events", "none").attr("d", (t) => {
        if (!Number.isFinite(t.at[0])) return null;
        const [x1, y1, x2, y2] = t.at.map((v) => v * tile), angle = Math.atan2(y1 - y2, x1 - x2), barb = (turn) => `${x1 - 8 * Math.cos(angle + turn)},${y1 - 8 * Math.sin(angle + turn)}`;
        return `M${x2},${y2}L${x1},${y1}M${barb(0.45)}L${x1},${y1}L${barb(-0.45)}`;
      });
      boxes.select("text").attr("class", (t) => (t.r === null || right(t) ? "small strong" : "small")).attr("x", tile / 2).attr("y", -5).attr("text-anchor", "middle").text((t) => t.name);
      boxes.select("text.state").attr("x", tile / 2).attr("y", tile + 13).attr("text-anchor", "middle").classed("strong", right).classed("muted", (t) => !right(t))
        .text((t) => (t.r === null ? "" : (right(t) ? "\u2713 " : "") + SAYS[is(t)]));
      const far = (v, [less, more]) => `${number(Math.abs(v) * 128, 0)} ${v < 0 ? less : more}`;
      const apart = ([x1, y1, x2, y2]) => `${far(x1 - x2, ["left of", "right of"])} and ${far(y1 - y2, ["above", "below"])} object 2`;
      const shift = (t) => t.at.map((v, i) => v - there[i]);
      view.told(boxes, (t) => {
        if (!Number.isFinite(t.at[0])) return `${t.name}: the two objects are not both there`;
        if (t.r === null) return `unedited: object 1 is ${apart(t.at)} (of 128 units; one picture)`;
        const [x1, y1, x2, y2] = shift(t);
        return `${t.name}, ${SAYS[is(t)]}: object 1 is ${apart(t.at)} (of 128 units; one picture).` + (Number.isFinite(x1) ? ` Against the unedited picture it has moved ${far(x1 - x2, ["left", "right"])} and ${far(y1 - y2, ["up", "down"])}, seen from object 2.` : "");
      });
      view.roving(boxes, 3);
    });
    const count = (n) => {
      const part = n.prompts[prompt], all = d3.range(relations.length).map((r) => state(part, r)), of = (name) => all.filter((one) => one === name).length;
      if (!Number.isFinite(part.there.values[0])) return `${n.title}: the unedited picture does not show both objects, so that nothing can be compared.`;
      return `${n.title}: ${of("follows")} of ${all.length - of("own")} follow, ${of("unmoved")} unmoved.`;
    };
    const same = `Every picture has the prompt "${prompts[prompt]}" and the same noise`, where = groups(words[group]);
    view.says(strengths[strength] ? `${same}; in the ${where} the told relation\u2019s vector is exchanged for ${strengths[strength] === 1 ? "" : `${strengths[strength]} times `}another\u2019s. A picture follows if it shows the new relation and the unedited one does not. ${networks.map(count).join(" ")}`
      : `${same}; in the ${where} the told relation\u2019s vector is taken out, and none put in: all eight are one picture.`);
  };
}
