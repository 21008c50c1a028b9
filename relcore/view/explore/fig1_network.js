// Figure 1. The text flows from left to right into the cross-attention of every block; the image tokens
// flow down the residual stream, from noise to picture, and once more at every step.
function figure(view) {
  const { networks, lit } = view.data;
  const now = () => networks[view.chosen.network];
  const commas = d3.format(",");
  // What the shown head gives, at this step, to the words it was chosen for.
  function looked() {
    const { pattern, words, read } = now(), map = pattern.at(view.chosen.step), own = d3.range(words.length).filter((w) => words[w][1] === read);
    const share = d3.mean(d3.range(0, map.length, words.length), (row) => d3.sum(own, (w) => map[row + w]));
    return `${number(share)} of the attention goes to \u201C${own.map((w) => words[w][0]).join(" ")}\u201D`;
  }
  // What a part says: its name, what it does, its shape.
  const parts = {
    prompt: () => ["The prompt", `${now().words.length} words with their roles: colours and shapes of object 1 and 2, the relation between them, and words that say nothing of the picture.`, `${now().tokens} text tokens`],
    encoder: () => ["The text encoder", now().contextual ? "It is pretrained and stays as it is. Every word's vector depends on the words around it, so the relation may be told in any of them." : "Every word has a fixed random vector, to which its place in the prompt is added: nothing of the relation can be told in another word.", `${now().tokens} tokens \u00D7 ${now().text_dim}`],
    caption_mlp: () => ["The caption MLP", "It brings every text vector to the width of the network, each by itself. It is trained, and decides what of a word is told on.", `${now().tokens} tokens: ${now().text_dim} \u2192 ${now().width}`],
    noise: () => ["The noisy picture", `Drawing starts from pure noise; at every step the network predicts the clean picture and takes some of the noise away.`, `${now().image_size} \u00D7 ${now().image_size} pixels, 3 colours`],
    embed: () => ["Patches and positions", `Every patch of ${now().patch} \u00D7 ${now().patch} pixels becomes one image token, to which its fixed place (x, y) is added.`, `${now().grid ** 2} image tokens \u00D7 ${now().width}`],
    stream: () => ["The residual stream", "It carries the image tokens through all blocks; every part reads it and adds to it. Early on it holds little but the positions.", `${now().grid ** 2} image tokens \u00D7 ${now().width}`],
    self_attention: () => ["Self-attention", "Image tokens look at each other: what one part of the picture will be, the others get to know.", `${now().heads} heads of ${now().head} in each of ${now().depth} blocks`],
    cross_attention: () => ["Cross-attention", `Image tokens look at the words: their queries (W_Q) meet the words' keys (W_K), and the values (W_V), weighed by that, pass through W_O into the stream. This alone brings the prompt into the picture. Measured here: head ${headName(now().shown)} at step ${view.chosen.step + 1}, one row per image token, one column per word; ${looked()}.`, `${now().heads} heads of ${now().head} in each of ${now().depth} blocks: ${now().grid ** 2} image tokens \u00D7 ${now().tokens} text tokens`],
    mlp: () => ["The MLP", "Every image token works on what it has gathered, by itself.", `${now().width} \u2192 ${4 * now().width} \u2192 ${now().width}`],
    picture: () => ["The predicted picture", "Every token becomes its patch again. The prediction is sharp only at the end, but where the objects go is seen within the first steps.", `${now().image_size} \u00D7 ${now().image_size} pixels, after step ${view.chosen.step + 1} of ${now().passes}`],
  };

  view.player(tick, (frame) => (frame < 6 ? 2300 : frame < 6 + now().passes ? 230 : 2500));
  view.segments("network", "", networks.map((n, k) => [k, n.title.split(" (")[0]]));
  view.slider("step", "step", now().passes, (k) => `${k + 1} of ${now().passes}`);
  view.asks(view.data.prompt);
  const journey = ["prompt", "encoder", "caption_mlp", "embed", "self_attention", "cross_attention"];
  function tick(frame) {
    if (frame < journey.length) { view.choose({ part: journey[frame], step: 0 }); flow(frame); }
    else view.choose({ part: "picture", step: Math.min(frame - journey.length, now().passes - 1) });
    return frame < journey.length + now().passes;
  }
  const svg = view.svg();
  for (const name of ["frame", "wires", "boxes", "marks"]) svg.append("g").attr("class", name);

  return () => {
    const network = now(), W = view.width, narrow = view.narrow, words = network.words;
    // Columns: words, encoder, caption MLP, block. Rows follow the image tokens' way down.
    const s = narrow ? 0 : 1, wordWide = s ? 84 : 63, encWide = s ? 76 : 28, mlpWide = s ? 76 : 28, gap = s ? 26 : 8;
    const encX = wordWide + gap, mlpX = encX + encWide + gap, blockX = mlpX + mlpWide + (s ? 46 : 20), blockWide = W - blockX - (s ? 34 : 14);
    const tile = s ? 76 : 62, top = 22, blockY = top + tile + 62, selfTall = 46, crossTall = s ? 210 : 216, mlpTall = 46, pad = 26;
    const selfY = blockY + pad, crossY = selfY + selfTall + 22, mlpY = crossY + crossTall + 22, blockTall = mlpY + mlpTall + 16 - blockY, pictureY = blockY + blockTall + 42;
    const streamX = blockX + blockWide * (s ? 0.72 : 0.76), partX = blockX + 12, partWide = streamX - partX - (s ? 26 : 18), tall = pictureY + tile + 8;
    const wordTall = Math.min(24, (crossTall + 40) / words.length), wordY = (w) => crossY + crossTall / 2 + (w - words.length / 2) * wordTall;
    const textTop = wordY(0), textTall = words.length * wordTall - 3, kvX = blockX - (s ? 14 : 6), kY = crossY + 66, vY = crossY + 156, mid = crossY + crossTall / 2;
    svg.attr("height", tall);

    // The block's frame, with the others behind it.
    svg.select("g.frame").selectAll("rect").data([8, 4, 0]).join("rect").attr("x", (d) => blockX + d).attr("y", (d) => blockY - d).attr("width", blockWide).attr("height", blockTall).attr("rx", 8)
      .attr("fill", "var(--ground)").attr("stroke", "var(--line)").attr("stroke-width", 1.5);

    // Wires: [name, path, class of what flows].
    const lines = [
      ...words.map(([, role], w) => [`word${w}`, `M${wordWide + 2},${wordY(w) + wordTall / 2 - 1}H${encX}`, roleColor(role)]),
      ...words.map(([, role], w) => [`text${w}`, `M${encX + encWide},${wordY(w) + wordTall / 2 - 1}H${mlpX}`, roleColor(role)]),
      ["trunk", `M${mlpX + mlpWide},${mid}H${kvX}`, "var(--muted)"],
      ["k", `M${kvX},${mid}V${kY}H${partX + 8}`, "var(--muted)"],
      ["v", `M${kvX},${mid}V${vY}H${partX + 8}`, "var(--muted)"],
      ["stream", `M${streamX},${top + tile}V${pictureY}`, "var(--ink)"],
      ["self", `M${streamX},${selfY + 12}H${partX + partWide}M${partX + partWide},${selfY + selfTall - 10}H${streamX}`, "var(--muted)"],
      ["q", `M${streamX},${crossY + 18}H${partX + partWide - (s ? 12 : 6)}`, "var(--muted)"],
      ["o", `M${partX + partWide},${crossY + crossTall - 18}H${streamX}`, "var(--muted)"],
      ["ff", `M${streamX},${mlpY + 12}H${partX + partWide}M${partX + partWide},${mlpY + mlpTall - 10}H${streamX}`, "var(--muted)"],
      ["loop", `M${streamX + tile / 2},${pictureY + tile / 2}H${W - 6}V${top + tile / 2}H${streamX + tile / 2 + 4}`, "var(--muted)"],
    ];
    const paths = svg.select("g.wires").selectAll("path").data(lines, (d) => d[0]).join("path").attr("d", (d) => d[1]).attr("fill", "none").attr("stroke", (d) => d[2])
      .attr("stroke-width", (d) => (d[0] === "stream" ? 7 : 1.6)).attr("stroke-opacity", (d) => (d[0] === "stream" ? 0.25 : 0.8)).attr("stroke-dasharray", (d) => (d[0] === "loop" ? "5 4" : null));

    // Boxes: [part, x, y, width, height, its text].
    const short = (a, b) => (s ? a : b);
    const boxes = [
      ["prompt", 0, textTop - 3, wordWide, textTall + 6, null],
      ["encoder", encX, textTop - 3, encWide, textTall + 6, short(["text", "encoder"], ["encoder"])],
      ["caption_mlp", mlpX, textTop - 3, mlpWide, textTall + 6, short(["caption", "MLP"], ["caption MLP"])],
      ["noise", streamX - tile / 2, top, tile, tile, null],
      ["embed", Math.min(streamX - (s ? 92 : 62), W - (s ? 184 : 126) - 14), blockY - 46, s ? 184 : 124, 24, [short("patches + positions", "patches + places")]],
      ["stream", streamX - 8, blockY + 6, 16, blockTall - 12, null],
      ["self_attention", partX, selfY, partWide, selfTall, short(["self-attention"], ["self-", "attention"])],
      ["cross_attention", partX, crossY, partWide, crossTall, null],
      ["mlp", partX, mlpY, partWide, mlpTall, ["MLP"]],
      ["picture", streamX - tile / 2, pictureY, tile, tile, null],
    ];
    const bright = (part) => !lit.length || lit.includes(part);
    const box = svg.select("g.boxes").selectAll("g.part").data(boxes, (d) => d[0]).join((enter) => { const g = enter.append("g").attr("class", "part").attr("tabindex", 0); g.append("rect"); g.append("g").attr("class", "inner"); return g; })
      .attr("data-part", (d) => d[0]).attr("transform", (d) => `translate(${d[1]},${d[2]})`);
    box.select("rect").attr("width", (d) => d[3]).attr("height", (d) => d[4]).attr("rx", 5).attr("fill", (d) => (d[0] === "stream" ? "transparent" : d[0] === view.chosen.part ? "color-mix(in srgb, var(--relation) 14%, var(--ground))" : "var(--cell)"))
      .attr("stroke", (d) => (d[0] === view.chosen.part ? "var(--relation)" : d[0] === "stream" ? "none" : "var(--line)")).attr("stroke-width", (d) => (d[0] === view.chosen.part ? 2.5 : 1.3));
    box.select("g.inner").attr("opacity", (d) => (bright(d[0]) ? 1 : 0.6));
    svg.select("g.boxes").selectAll("g.part").filter((d) => d[5]).select("g.inner").each(function (d) {
      const tower = d[3] < 45, g = d3.select(this);
      g.attr("transform", tower ? `translate(${d[3] / 2 + 4},${d[4] / 2}) rotate(-90)` : `translate(${d[3] / 2},${d[4] / 2 + 4})`);
      g.selectAll("text").data(d[5]).join("text").attr("class", "strong").attr("text-anchor", "middle").attr("y", (_, i) => (i - (d[5].length - 1) / 2) * 15).text((t) => t);
    });
    view.told(box, (d) => { const [name, what, shape] = parts[d[0]](); return `${name}: ${shape}\n${what}`; }, "button");
    view.pressed(box, (_, d) => view.choose({ part: d[0] }));
    const inner = (part) => box.filter((d) => d[0] === part).select("g.inner");

    // The words, and how the encoder joins them.
    const word = inner("prompt").selectAll("g.word").data(words).join((enter) => { const g = enter.append("g").attr("class", "word"); g.append("text"); g.append("path"); return g; }).attr("transform", (_, w) => `translate(0,${w * wordTall + 3})`);
    word.select("text").attr("x", 8).attr("y", wordTall / 2 + 3).style("fill", (d) => roleColor(d[1])).attr("class", "strong").text((d) => d[0]);
    word.select("path").attr("stroke", (d) => roleColor(d[1])).attr("stroke-width", 3).attr("stroke-dasharray", (d) => (d[1].endsWith("2") ? "4 3" : null)).attr("d", `M2.5,2V${wordTall - 4}`);
    const middle = (w) => w * wordTall + wordTall / 2 + 2;
    const mixing = network.contextual ? d3.cross(d3.range(words.length), d3.range(words.length)).filter(([a, b]) => a !== b) : d3.range(words.length).map((a) => [a, a]);
    box.filter((d) => d[0] === "encoder").selectAll("g.mix").data([0]).join((enter) => enter.insert("g", "g.inner").attr("class", "mix")).selectAll("path").data(mixing).join("path").attr("fill", "none")
      .attr("stroke", ([a]) => roleColor(words[a][1])).attr("stroke-opacity", network.contextual ? 0.28 : 0.5).attr("d", ([a, b]) => `M0,${middle(a)}C${encWide * 0.4},${middle(a)} ${encWide * 0.6},${middle(b)} ${encWide},${middle(b)}`);
    inner("encoder").selectAll("text").style("paint-order", "stroke").style("stroke", "var(--cell)").style("stroke-width", "5px");

    // Pictures.
    for (const [part, strip] of [["noise", network.noisy], ["picture", network.clean]]) {
      view.picture(inner(part), strip, { side: tile - 4, columns: network.passes, column: view.chosen.step }).attr("x", 2).attr("y", 2);
      const lines = d3.range(1, network.grid).flatMap((i) => [`M${(i * tile) / network.grid},0V${tile}`, `M0,${(i * tile) / network.grid}H${tile}`]);
      inner(part).selectAll("path.tokens").data([lines.join("")]).join("path").attr("class", "tokens").attr("stroke", "var(--ground)").attr("stroke-width", 0.6).attr("stroke-opacity", 0.55).attr("d", (d) => d);
    }

    // Inside the cross-attention.
    const cross = inner("cross_attention"), chip = s ? 30 : 24, small = Math.min(s ? 8 : 5, 88 / words.length), thin = 1.5, gridTall = network.grid ** 2 * thin;
    cross.selectAll("text.name").data(short(["cross-attention"], ["cross-", "attention"])).join("text").attr("class", "name strong").attr("x", 8)
      .attr("y", (_, i) => (s ? 20 : crossTall - 24 + 14 * i)).text((d) => d);
    const gridX = partWide - words.length * small - 10, gridY = 40, gridMid = gridX + (words.length * small) / 2, foot = crossTall - 18;
    const chips = [["Q", gridMid - chip / 2, 6], ["K", 8, kY - crossY - 12], ["V", 8, vY - crossY - 12], ["O", partWide - chip - 6, foot - 12]];
    const chipsG = cross.selectAll("g.chip").data(chips).join((enter) => { const g = enter.append("g").attr("class", "chip"); g.append("rect"); g.append("text"); return g; }).attr("transform", (d) => `translate(${d[1]},${d[2]})`);
    chipsG.select("rect").attr("width", chip).attr("height", 24).attr("rx", 5).attr("fill", "var(--ground)").attr("stroke", "var(--relation)").attr("stroke-width", 1.6);
    chipsG.select("text").attr("class", "strong").attr("text-anchor", "middle").attr("x", chip / 2).attr("y", 16).style("fill", "var(--relation)").text((d) => d[0]);
    const pattern = network.pattern.at(view.chosen.step), seen = (d) => pattern[d[0] * words.length + d[1]];
    cross.selectAll("rect.cell").data(d3.cross(d3.range(network.grid ** 2), d3.range(words.length))).join("rect").attr("class", "cell").attr("x", (d) => gridX + d[1] * small).attr("y", (d) => gridY + d[0] * thin).attr("width", small - 1).attr("height", thin)
      .attr("fill", (d) => (seen(d) < 0.03 ? "var(--line)" : roleColor(words[d[1]][1]))).attr("fill-opacity", (d) => (seen(d) < 0.03 ? 0.35 : seen(d)));
    cross.selectAll("text.shown").data([headName(network.shown)]).join("text").attr("class", "shown small muted").attr("text-anchor", "end").attr("x", gridX - 6).attr("y", gridY + gridTall - 4).text((d) => d);
    const inside = [`M${8 + chip},${kY - crossY}H${gridX - 3}`, `M${gridMid},30V${gridY - 3}`, `M${8 + chip},${vY - crossY}H${gridMid}`, `M${gridMid},${gridY + gridTall + 2}V${foot}H${partWide - chip - 6}`];
    cross.selectAll("path.inside").data(inside).join("path").attr("class", "inside").attr("fill", "none").attr("stroke", "var(--muted)").attr("stroke-width", 1.5).attr("d", (d) => d).lower();

    // Captions in the drawing.
    const notes = [
      [Math.min(streamX + (s ? 60 : 52), W), top - 8, `noisy picture, step ${view.chosen.step + 1}`, "end"],
      [blockX + 12, blockY + 17, `block, ${network.depth} of them`, "start"],
      [W - 10, s ? pictureY + tile / 2 + 16 : pictureY - 8, short(`${network.passes} times`, `${network.passes}\u00D7`), "end"],
      [streamX - tile / 2 - 8, pictureY + tile / 2 + 4, short("predicted picture", "prediction"), "end"],
    ];
    svg.select("g.marks").selectAll("text").data(notes).join("text").attr("class", "small muted").attr("x", (d) => d[0]).attr("y", (d) => d[1]).attr("text-anchor", (d) => d[3]).text((d) => d[2]);
    svg.select("g.marks").selectAll("circle").data([selfY + selfTall - 10, crossY + crossTall - 18, mlpY + mlpTall - 10]).join("circle").attr("cx", streamX).attr("cy", (d) => d).attr("r", 6).attr("fill", "var(--ground)").attr("stroke", "var(--ink)").attr("stroke-width", 1.4);
    svg.select("g.marks").selectAll("path.plus").data([selfY + selfTall - 10, crossY + crossTall - 18, mlpY + mlpTall - 10]).join("path").attr("class", "plus").attr("stroke", "var(--ink)").attr("stroke-width", 1.4).attr("d", (d) => `M${streamX - 4},${d}h8M${streamX},${d - 4}v8`);
    paths.attr("opacity", (d) => (!lit.length ? 1 : 0.6));

    // On a wide page the explanation stands where the drawing leaves room.
    view.line.style("position", s ? "absolute" : null).style("width", s ? `${blockX - 40}px` : null).style("top", s ? `${view.stage.node().offsetTop + 30}px` : null);
    const [name, what, shape] = parts[view.chosen.part]();
    view.line.selectAll("*").remove();
    view.line.text("").append("strong").text(`${name}. `);
    view.line.append("span").text(`${what} `);
    view.line.append("em").text(`${shape}.`);
  };

  // Dots run along the wires that lead out of a part.
  function flow(stage) {
    const named = [/^word/, /^text/, /^(trunk|k|v)$/, /^stream$/, /^self$/, /^(q|o|k|v)$/][stage];
    view.dots(svg.select("g.wires").selectAll("path").filter((wire) => named.test(wire[0])));
  }
}
