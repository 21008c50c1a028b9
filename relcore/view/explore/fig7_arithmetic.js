// Figure 7. A compass of pictures: in the middle the prompt's own, around it each relation put into the words.
function figure(view) {
  const { networks, prompts, words, strengths, relations, directions } = view.data;
  const groups = (w) => (w === "relation" ? "relation words" : w.startsWith("color") ? "colour words" : w.startsWith("shape") ? "shape words" : w);
  view.player((frame) => { view.choose({ strength: frame % strengths.length }); return frame < strengths.length - 1; }, () => 1600);
  if (prompts.length > 1) view.menu("prompt", "prompt", prompts.map((p, k) => [k, p]));
  view.segments("words", "put into", words.map((w, k) => [k, groups(w)]));
  view.slider("strength", "strength", strengths.length, (k) => `${strengths[k]} \u00D7 v`);
  const svg = view.svg(), panels = svg.selectAll("g.network").data(networks).join("g").attr("class", "network");

  // Whether the objects stand as a relation says, by more than 5 of 128 units.
  const holds = ([x1, y1, x2, y2], [dx, dy]) => (!dx || (x1 - x2) * dx > 5 / 128) && (!dy || (y1 - y2) * dy > 5 / 128);
  const places = (part, r) => part.places.at(view.chosen.words, view.chosen.strength, r);

  return () => {
    const { words: group, strength, prompt } = view.chosen, narrow = view.narrow, gap = 34, columns = narrow ? 1 : networks.length;
    const wide = (view.width - gap * (columns - 1)) / columns, cell = Math.min(wide / 3, 130), tile = cell - 8, high = 3 * (cell + 18) + 36;
    svg.attr("height", high * Math.ceil(networks.length / columns));
    panels.attr("transform", (_, k) => `translate(${(k % columns) * (wide + gap)},${narrow ? k * high : 0})`).each(function (network) {
      const g = d3.select(this), part = network.prompts[prompt];
      g.selectAll("text.name").data([network.title]).join("text").attr("class", "name strong").attr("y", 14).text((d) => d);
      const tiles = [...directions.map((d, r) => ({ r, d, at: places(part, r), name: relations[r] })), { r: null, d: [0, 0], at: part.there, name: "unedited" }];
      const boxes = g.selectAll("g.tile").data(tiles).join((enter) => {
        const box = enter.append("g").attr("class", "tile");
        const frame = box.append("svg").attr("viewBox", "0 0 1 1").style("overflow", "hidden");
        frame.append("image").attr("preserveAspectRatio", "none").style("image-rendering", "pixelated");
        for (const part of ["rect", "path", "text"]) box.append(part);
        return box;
      }).attr("transform", (t) => `translate(${(t.d[0] + 1) * cell + 3},${(t.d[1] + 1) * (cell + 18) + 40})`);
      boxes.select("svg").attr("width", tile).attr("height", tile);
      boxes.select("image").attr("href", (t) => (t.r === null ? part.plain : part.pictures)).attr("width", (t) => (t.r === null ? 1 : relations.length)).attr("height", (t) => (t.r === null ? 1 : words.length * strengths.length))
        .attr("x", (t) => -(t.r ?? 0)).attr("y", (t) => (t.r === null ? 0 : -(group * strengths.length + strength)));
      const right = (t) => t.r !== null && holds(t.at, t.d);
      boxes.select("rect").attr("width", tile).attr("height", tile).attr("fill", "none").attr("stroke-width", (t) => (right(t) ? 4 : 1.5)).attr("stroke", (t) => (right(t) ? "var(--relation)" : "var(--line)"));
      boxes.select("path").attr("stroke", "white").attr("stroke-width", 2).attr("fill", "none").attr("pointer-events", "none").attr("d", (t) => {
        if (!Number.isFinite(t.at[0])) return null;
        const [x1, y1, x2, y2] = t.at.map((v) => v * tile), angle = Math.atan2(y1 - y2, x1 - x2), barb = (turn) => `${x1 - 8 * Math.cos(angle + turn)},${y1 - 8 * Math.sin(angle + turn)}`;
        return `M${x2},${y2}L${x1},${y1}M${barb(0.45)}L${x1},${y1}L${barb(-0.45)}`;
      });
      boxes.select("text").attr("class", (t) => (right(t) ? "small strong" : "small muted")).attr("x", tile / 2).attr("y", -5).attr("text-anchor", "middle").text((t) => (right(t) ? "\u2713 " : "") + (t.r === part.told ? `${t.name} (told)` : t.name));
      view.told(boxes, (t) => (Number.isFinite(t.at[0])
        ? `${t.name}: object 1 is ${number((t.at[0] - t.at[2]) * 128, 0)} to the right of and ${number((t.at[1] - t.at[3]) * 128, 0)} below object 2 (of 128 units; one picture)`
        : `${t.name}: the two objects are not both there`));
      view.roving(boxes, 3);
    });
    view.says(`Every picture has the prompt "${prompts[prompt]}" and the same noise; only in the ${groups(words[group])} the told relation's vector is taken out and ${strengths[strength]} times another's put in. Framed: object 1 stands where the new relation says. `
      + networks.map((n) => { const part = n.prompts[prompt], others = d3.range(relations.length).filter((r) => r !== part.told); return `${n.title}: ${others.filter((r) => holds(places(part, r), directions[r])).length} of ${others.length} follow.`; }).join(" "));
  };
}
