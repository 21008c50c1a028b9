// Figure 3b. Per network: a relation's vector through W_K and the positions through W_Q give a map over
// the picture; its cosine with the relation's ramp; the mean over relations; that of every head.
const ARROWS = { above: "\u2191", below: "\u2193", left: "\u2190", right: "\u2192", "upper left": "\u2196", "upper right": "\u2197", "lower left": "\u2199", "lower right": "\u2198" };
const READ = { relation: "the relation words", words: "single relation words" };

function figure(view) {
  const { networks, relations, ramps, strip } = view.data;
  const [layers, heads] = networks[0].tokens[0].cosines.shape, count = relations.length;
  const read = (token) => READ[token] ?? `the word of ${roleName(token)}`;
  const part = (k) => networks[k].tokens[view.chosen[`token${k}`]];
  const score = (k, head, r = count) => view.chosen.sign * part(k).cosines.at(...head, r);
  const nullRange = (k, head) => part(k).nulls.at(...head).map((v) => v * view.chosen.sign).slice().sort();
  let done = { relations: count, heads: layers * heads }; // how far Play has come

  view.player(tick, (frame) => (frame < count ? 900 : frame === count ? 1500 : frame < count + layers * heads ? 70 : 2500));
  view.menu("relation", "relation", relations.map((r, k) => [k, `${ARROWS[r]} ${r}`]));
  view.segments("sign", "high where", [[1, "object 1 belongs"], [-1, "object 2 belongs"]]);
  networks.forEach((network, k) => {
    if (network.tokens.length > 1) view.menu(`token${k}`, `${network.title.split(" (")[0]}: read`, network.tokens.map((t, i) => [i, read(t.token)]));
  });
  // Play: one relation after the other through one head, their mean, then head after head.
  function tick(frame) {
    if (frame < count) { done = { relations: frame + 1, heads: 0 }; view.choose({ relation: frame }); travel(); }
    else { done = { relations: count, heads: frame - count }; view.update(); }
    return frame < count + layers * heads;
  }

  const svg = view.svg();
  const panels = svg.selectAll("g.network").data(networks).join("g").attr("class", "network");
  panels.each(function () { for (const name of ["title", "flow", "produced", "ramp", "eight", "mean", "grid"]) d3.select(this).append("g").attr("class", name); });

  return () => {
    if (!view.playing) done = { relations: count, heads: layers * heads };
    const columns = view.narrow ? 1 : networks.length, gap = 34, wide = (view.width - gap * (columns - 1)) / columns;
    let bottom = 0, below = 0;
    panels.each(function (_, k) {
      const g = d3.select(this).attr("transform", `translate(${(k % columns) * (wide + gap)},${columns === 1 ? bottom : 0})`);
      const high = drawNetwork(g, k, Math.min(wide, 460));
      bottom = columns === 1 ? bottom + high + 14 : Math.max(bottom, high);
    });
    svg.attr("height", bottom);
    view.says(sentence());
  };

  function sentence() {
    const r = relations[view.chosen.relation], side = view.chosen.sign > 0 ? 1 : 2;
    if (view.playing && !done.heads) return `"${r}": its vector v through W_K is the head's key, every place of the picture through W_Q a query. Query times key makes a map; is it a ramp that is high where object ${side} belongs?`;
    if (view.playing) return "The mean cosine over the eight relations is the head's score; head after head, beside the range that relabelled relations give.";
    return networks.map((network, k) => {
      const all = d3.cross(d3.range(layers), d3.range(heads)), best = d3.greatest(all, (d) => score(k, d)), [low, high] = nullRange(k, best);
      return `${network.title}, reading ${read(part(k).token)}: the best head is ${headName(best)}, mean cosine ${number(score(k, best))}, where relabelled relations give ${number(low)} to ${number(high)}.`;
    }).join(" ");
  }

  function drawNetwork(g, k, wide) {
    const network = networks[k], name = `head${k}`, head = view.chosen[name], token = part(k), r = view.chosen.relation, { sign } = view.chosen;
    const label = (parent, cls, data) => parent.selectAll(`text.${cls}`).data(data).join("text").attr("class", (d) => `${cls} ${d[3] ?? "small"}`).attr("x", (d) => d[0]).attr("y", (d) => d[1]).text((d) => d[2]).attr("text-anchor", (d) => d[4] ?? "start");
    const [encoder, run] = network.title.split(" (");
    label(g.select("g.title"), "name", [[0, 14, encoder, "strong"], [0, 29, `${run ? run.replace(")", "") + ", " : ""}reads ${read(token.token)}`, "small muted"]]);

    // The vector through W_K, the positions through W_Q.
    const tile = Math.min(84, (wide - 150) / 2.35), flow = g.select("g.flow"), x = wide - 2 * tile - 30, y = 62;
    const reach = x - 22, bar = (parent, cls, values, x0, y0, w) => parent.selectAll(`rect.${cls}`).data([...values]).join("rect").attr("class", cls).attr("x", (_, i) => x0 + (i * w) / values.length).attr("y", y0)
      .attr("width", w / values.length + 0.2).attr("height", 13).attr("fill", (v) => (v > 0 ? "var(--ink)" : "var(--muted)")).attr("fill-opacity", (v) => Math.min(1, Math.abs(v)));
    label(flow, "step", [[0, y + 8, `v of ${ARROWS[relations[r]]}`, "small"], [reach * 0.62, y + 8, "key", "small"], [0, y + 60, "every place", "small"], [reach * 0.62, y + 60, "queries", "small"]]);
    bar(flow, "vector", token.vectors.at(r), 0, y + 13, reach * 0.34);
    bar(flow, "key", token.keys.at(...head, r), reach * 0.62, y + 13, reach * 0.38);
    const cellsOf = d3.cross(d3.range(8), d3.range(8)), small = Math.min(4.4, (reach * 0.34) / 8);
    flow.selectAll("rect.place").data(cellsOf).join("rect").attr("class", "place").attr("x", (d) => d[1] * small).attr("y", (d) => y + 65 + d[0] * small).attr("width", small - 0.7).attr("height", small - 0.7).attr("fill", "var(--muted)");
    flow.selectAll("rect.query").data(cellsOf).join("rect").attr("class", "query").attr("x", (d) => reach * 0.62 + d[1] * small).attr("y", (d) => y + 65 + d[0] * small).attr("width", small - 0.7).attr("height", small - 0.7).attr("fill", "var(--ink)");
    const boxes = [["W_K", y + 9], ["W_Q", y + 72]];
    flow.selectAll("path.wire").data([`M${reach * 0.34 + 2},${y + 20}H${reach * 0.6}`, `M${reach * 0.34 + 2},${y + 83}H${reach * 0.6}`, `M${reach + 2},${y + 20}h8V${y + 44}h8`, `M${reach * 0.62 + 8 * small + 3},${y + 83}H${reach + 10}V${y + 44}h8`]).join("path")
      .attr("class", "wire").attr("fill", "none").attr("stroke", "var(--line)").attr("stroke-width", 1.5).attr("d", (d) => d);
    const weights = flow.selectAll("g.weight").data(boxes).join((enter) => { const b = enter.append("g").attr("class", "weight"); b.append("rect"); b.append("text"); return b; });
    weights.select("rect").attr("x", reach * 0.39).attr("y", (d) => d[1]).attr("width", 30).attr("height", 22).attr("rx", 4).attr("fill", "var(--ground)").attr("stroke", "var(--relation)").attr("stroke-width", 1.5);
    weights.select("text").attr("class", "small strong").attr("text-anchor", "middle").attr("x", reach * 0.39 + 15).attr("y", (d) => d[1] + 15).style("fill", "var(--relation)").text((d) => d[0].replace("_", ""));
    view.told(weights, (d) => (d[0] === "W_K" ? `W_K of ${headName(head)}: text vector to key, 64 numbers` : `W_Q of ${headName(head)}: position to query, 64 numbers for each of the 64 places`)).attr("tabindex", 0);

    // The map that comes out, and the ramp that it should be.
    const maps = (index) => token.maps.at(...head, index), ramp = (index) => ramps.at(index).map((v) => v * sign);
    const peak = (values) => d3.max(values, Math.abs);
    const produced = g.select("g.produced").attr("transform", `translate(${x},${y})`), wanted = g.select("g.ramp").attr("transform", `translate(${x + tile + 30},${y})`);
    view.tokens(produced, maps(r), { side: tile, signed: true, scale: peak(maps(r)) });
    view.tokens(wanted, ramp(r), { side: tile, signed: true, scale: peak(ramp(r)) });
    view.told(produced, () => `Query times key of ${headName(head)} for "${relations[r]}": teal is high, pink is low`).attr("tabindex", 0);
    view.told(wanted, () => `The ramp of "${relations[r]}", high where object ${sign > 0 ? 1 : 2} belongs`).attr("tabindex", 0);
    label(produced, "what", [[tile / 2, -8, "produced", "small", "middle"]]);
    label(wanted, "what", [[tile / 2, -8, "wanted", "small", "middle"]]);
    label(produced, "sim", [[tile + 15, tile / 2 + 4, "\u2248", "strong", "middle"]]);
    label(wanted, "cos", [[-15, tile + 17, `cosine ${number(score(k, head, r))}`, "strong", "middle"]]);

    // All eight relations.
    const top = y + Math.max(tile, 104) + 46, column = wide / count, side = Math.min(36, column - 5), eight = g.select("g.eight");
    label(eight, "head", [[0, top - 6, `${headName(head)}, all relations`, "strong"]]);
    const ones = eight.selectAll("g.one").data(d3.range(count)).join((enter) => { const one = enter.append("g").attr("class", "one"); one.append("g").attr("class", "made"); one.append("g").attr("class", "ref"); one.append("rect").attr("class", "pick").attr("fill", "none"); return one; })
      .attr("transform", (i) => `translate(${i * column},${top + 20})`);
    ones.each(function (i) {
      const one = d3.select(this), on = i < done.relations;
      view.tokens(one.select("g.made"), on ? maps(i) : maps(i).map(() => 0), { side, signed: true, scale: peak(maps(i)) });
      view.tokens(one.select("g.ref").attr("transform", `translate(0,${side + 4})`), ramp(i), { side, signed: true, scale: peak(ramp(i)) });
      label(one, "arrow", [[side / 2, -5, ARROWS[relations[i]], "strong", "middle"]]);
      label(one, "score", [[side / 2, 2 * side + 18, on ? number(score(k, head, i)) : "", "small", "middle"]]);
      one.select("rect.pick").attr("x", -2).attr("y", -2).attr("width", side + 4).attr("height", 2 * side + 8).attr("rx", 3).attr("stroke", i === r ? "var(--accent)" : "none").attr("stroke-width", 2).attr("pointer-events", "all");
    });
    view.told(ones, (i) => `${relations[i]}: cosine ${number(score(k, head, i))}`, "button");
    view.pressed(ones, (_, i) => view.choose({ relation: i }));
    view.roving(ones, count, r);

    // Their mean, beside the null's range.
    const line = top + 2 * side + 70, axis = d3.scaleLinear([-1, 1], [4, wide - 4]), mean = g.select("g.mean"), [low, high] = nullRange(k, head), all = done.relations === count;
    mean.selectAll("path.axis").data([0]).join("path").attr("class", "axis").attr("stroke", "var(--line)").attr("d", `M${axis(-1)},${line}H${axis(1)}`);
    const band = mean.selectAll("rect.null").data([0]).join("rect").attr("class", "null").attr("x", axis(low)).attr("width", Math.max(2, axis(high) - axis(low))).attr("y", line - 7).attr("height", 14).attr("fill", "var(--line)").attr("rx", 3);
    view.told(band, () => `With the relations relabelled at random the mean cosine of ${headName(head)} is between ${number(low)} and ${number(high)} (95 %)`).attr("tabindex", 0);
    mean.selectAll("circle").data(d3.range(count)).join("circle").attr("cy", line).attr("r", 3.2).attr("fill", "var(--relation)").attr("fill-opacity", (i) => (i < done.relations ? 0.55 : 0)).attr("cx", (i) => axis(score(k, head, i)));
    const tickMark = mean.selectAll("rect.mean").data([0]).join("rect").attr("class", "mean").attr("width", 4).attr("height", 20).attr("y", line - 10).attr("fill", "var(--accent)");
    view.ease(tickMark, 400).attr("x", axis(score(k, head)) - 2).attr("opacity", all ? 1 : 0);
    const text = axis(score(k, head));
    label(mean, "said", [[Math.max(60, Math.min(wide - 50, text)), line - 15, all ? `mean ${number(score(k, head))}` : "", "strong", "middle"], [axis(-1), line + 22, "\u22121", "small muted"], [axis((low + high) / 2), line + 22, "chance", "small muted", "middle"], [axis(1), line + 22, "1", "small muted", "end"]]);

    // Every head's score.
    const gridTop = line + 62, cell = Math.min(58, (wide - 26) / heads), tall = Math.min(32, cell), inner = d3.scaleLinear([-1, 1], [3, cell - 5]);
    label(g.select("g.grid"), "head", [[0, gridTop - 12, "Mean cosine of every head", "strong"]]);
    const value = (d) => (d[0] * heads + d[1] < done.heads ? Math.max(0, score(k, d)) : 0);
    view.heads(g.select("g.grid").selectAll("g.cells").data([0]).join("g").attr("class", "cells").attr("transform", `translate(24,${gridTop})`), {
      layers, heads, size: cell, tall, name, label: `heads of ${network.title}`, fill: "var(--relation)", opacity: (d) => value(d) ** 2,
      told: (d) => { const [a, b] = nullRange(k, d); return `${headName(d)}: mean cosine ${number(score(k, d))}; relabelled relations give ${number(a)} to ${number(b)} (95 %); 8 relations`; },
      each(d) {
        const [a, b] = nullRange(k, d), on = d[0] * heads + d[1] < done.heads, g = d3.select(this), strong = value(d) > 0.75;
        g.selectAll("rect.range").data([0]).join("rect").attr("class", "range").attr("x", inner(a)).attr("width", inner(b) - inner(a)).attr("y", tall - 12).attr("height", 4).attr("fill", strong ? "var(--ground)" : "var(--muted)").attr("fill-opacity", 0.45).attr("rx", 2);
        g.selectAll("rect.at").data([0]).join("rect").attr("class", "at").attr("x", inner(score(k, d)) - 1.5).attr("width", 3).attr("y", tall - 15).attr("height", 10).attr("fill", strong ? "var(--ground)" : "var(--ink)").attr("opacity", on ? 1 : 0);
      },
    });
    return gridTop + layers * tall + 22;
  }

  // The vector on its way to the map.
  function travel() {
    if (REDUCED.matches) return;
    panels.each(function () {
      const from = d3.select(this).select("g.flow").node().getBBox(), to = d3.select(this).select("g.produced").attr("transform").match(/[\d.]+/g).map(Number);
      d3.select(this).append("rect").attr("x", from.x).attr("y", 75).attr("width", 34).attr("height", 13).attr("rx", 3).attr("fill", "var(--relation)").attr("opacity", 0.85).attr("pointer-events", "none")
        .transition().duration(600).attr("x", to[0] + 20).transition().duration(150).attr("opacity", 0).remove();
    });
  }
}
