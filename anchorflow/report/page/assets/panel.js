"use strict";
// One panel of the flow view: its run and prompt, the layers, the list of the strongest flows. prompt.js draws the prompt.

const LISTED = 12;

/** `prefix` names the panel in the page's state; `shared` is what is chosen for all panels; `beside` the panel before it. */
function flowPanel(prefix, shared, beside) {
  const id = (name) => `${prefix}-${name}`;
  const now = { example: null, layer: state.number(`${prefix}.layer`) - 1, head: state.number(`${prefix}.head`) ?? 0, pinned: state.number(`${prefix}.token`) - 1 };
  let found = [], drawn = [];

  const choices = el("div", { class: "controls" });
  const heading = el("h3", { id: id("heading") });
  const verdict = el("p", { class: "verdict", id: id("verdict") });
  const layer = el("input", { type: "range", min: 1, step: 1, id: id("layer"), "aria-label": "layer", oninput: () => { toLayer(layer.value - 1); draw(); shared.follow(panel); } });
  const layers = el("div", { class: "layers" }, layer);
  const layerText = el("strong", { id: id("layer-text") });
  const counted = el("span", { class: "note", id: id("counted"), role: "status" });
  const axis = el("div", { class: "axis" });
  const caption = el("p", { class: "note", id: id("caption") });
  const list = el("div", { class: "strongest", id: id("list") });
  const prompt = promptView(id("prompt"), now, () => { keep(); });
  const node = el("div", { class: "panel" }, choices, heading, verdict, el("p", { class: "layer-line" }, layerText, " ", counted), layers, axis, caption,
    el("div", { class: "flow-body" }, el("div", {}, prompt.node, prompt.note), list));
  const observer = new ResizeObserver(() => { if (now.example) { sizeThumb(); draw(); } });
  observer.observe(prompt.node);

  const predicted = ({ probs, names }) => names[probs.indexOf(Math.max(...probs))];
  const runOf = (example) => data.runs[example.run];

  /** Show one of these examples: the one that is shown, else what the state names, else the first (or second). Whether it is
   * another one. */
  function refresh(examples) {
    found = examples;
    const [run, row] = [state.get(`${prefix}.run`), state.number(`${prefix}.row`)];
    const kept = now.example ?? found.find((each) => runOf(each).id === run && (row === undefined || each.query === row));
    const other = beside && found.find((each) => each !== beside.example());
    return choose(found.includes(kept) ? kept : other ?? found[0]);
  }

  function drawChoices() {
    const runs = [...new Set(found.map(({ run }) => run))], own = found.filter(({ run }) => run === now.example.run);
    const texts = own.map((example) => `${example.text}  (row ${example.query})`);
    const focused = document.activeElement?.dataset.choice;
    const row = el("input", { type: "number", min: 0, step: 1, value: now.example.query, list: id("rows"), "data-choice": "row", "aria-describedby": id("missing"), onchange: () => {
      const wanted = own.find(({ query }) => query === Number(row.value));
      missing.textContent = wanted ? "" : `Row ${row.value} is not kept; rows that are: ${own.map(({ query }) => query).join(", ")}.`;
      if (wanted) choose(wanted);
    } });
    const missing = el("output", { id: id("missing") });
    const heads = now.example.heads.length ? select("heads", ["all together", ...Array.from({ length: headCount() }, (_, i) => `head ${i + 1}`)], now.head, (i) => { now.head = i; draw(); keep(); }) : null;
    const options = [select("run", runs.map((run) => named(data.runs[run])), runs.indexOf(now.example.run), (i) => choose(found.find(({ run }) => run === runs[i]))),
      select("query", texts, own.indexOf(now.example), (i) => choose(own[i])), el("label", {}, "row", row), heads];
    options.filter(Boolean).forEach((label, i) => { label.querySelector("select, input").dataset.choice ??= i; });
    choices.replaceChildren(...options.filter(Boolean), el("datalist", { id: id("rows") }, ...own.map(({ query }) => el("option", { value: query }))), missing);
    if (focused) choices.querySelector(`[data-choice="${focused}"]`)?.focus();
  }

  function choose(example) {
    const { length } = example.layers, before = now.example;
    if (before === example) { drawChoices(); return false; }
    if (before) now.pinned = NaN;
    now.example = example;
    toLayer(Number.isInteger(now.layer) ? now.layer : beside ? Math.round(beside.depth() * (length - 1)) : Math.floor(length / 2));
    now.head = Math.min(now.head, headCount());
    if (!(now.pinned >= 0 && now.pinned < example.tokens.length)) now.pinned = NaN;
    layer.max = length;
    layer.value = now.layer + 1;
    drawChoices();
    heading.textContent = `${visible(named(runOf(example)))}, row ${example.query}`;
    drawVerdict();
    prompt.write(example, predicted(example));
    keep();
    draw();
    return true;
  }

  function toLayer(i) {
    now.layer = Math.max(0, Math.min(i, now.example.layers.length - 1));
    layer.value = now.layer + 1;
    keep();
  }

  /** Into the page's state; the first panel's choices only where they are not the ones it opens with. */
  function keep() {
    const { example } = now, opening = !beside && example === found[0];
    state.set(`${prefix}.run`, opening ? null : runOf(example).id);
    state.set(`${prefix}.row`, opening ? null : example.query);
    state.set(`${prefix}.layer`, !beside && now.layer === Math.floor(example.layers.length / 2) ? null : now.layer + 1);
    state.set(`${prefix}.head`, now.head || null);
    state.set(`${prefix}.token`, now.pinned >= 0 ? now.pinned + 1 : null);
  }

  function drawVerdict() {
    const { probs, label, names } = now.example;
    const others = probs.map((p, i) => `${shortened(names[i], 30)} ${p.toFixed(3)}`).join(", ");
    verdict.replaceChildren("predicted ", el("strong", { class: predicted(now.example) === names[label] ? "right" : "wrong" }, shortened(predicted(now.example), 30)),
      `, true label ${shortened(names[label], 30)}; probabilities: ${others}`);
  }

  /** The model's own number of a layer: not all layers of a hybrid model have attention maps. */
  const numbered = (i) => now.example.numbers[i] || i + 1;
  const headCount = () => now.example.heads[0]?.find((parts) => parts.length)?.length ?? 0;

  /** What a kind has of a layer: the share of all its flow, and the mean over its pairs. */
  function share(k, i) {
    const { means, pairs, totals } = now.example;
    return totals[i] ? means[k][i] * pairs[k] / totals[i] : 0;
  }

  /** Bars of every layer behind the slider: its thumb frames the layer that is shown. */
  function drawLayers() {
    const { means } = now.example, n = means[0].length;
    const bars = svg("svg", { viewBox: `0 0 ${n} 1`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (let i = 0; i < n; i++) {
      const parts = means.map((mean, k) => (shared.bars === "share" ? share(k, i) : mean[i])), total = parts.reduce((sum, part) => sum + part, 0) || 1;
      let top = 0;
      Object.keys(KINDS).forEach((kind, k) => {
        const height = parts[k] / total;
        bars.append(svg("rect", { class: kind, x: i + 0.05, width: 0.9, y: top, height: Math.max(0, height - 0.012), fill: `var(--${kind})` }));
        top += height;
      });
    }
    layers.querySelector("svg")?.remove();
    layers.prepend(bars); // the slider stays where it is: it may be dragged right now
    axis.replaceChildren(el("span", {}, `layer ${numbered(0)}`), el("span", {}, `layer ${numbered(n - 1)}`));
    caption.textContent = BARS[shared.bars].caption;
    sizeThumb();
  }

  function sizeThumb() {
    layer.style.setProperty("--thumb", `${Math.max(8, layers.clientWidth / now.example.layers.length)}px`);
  }

  /** The flows to draw, strongest first: {to, from, value, kind, sign}; of one head those among the strongest of all heads. */
  function flows() {
    const { layers: all, demonstrations, tokens, signs, heads } = now.example;
    const anchors = new Set(demonstrations.map((d) => d.anchor)), target = tokens.length - 1, flat = all[now.layer], kept = [];
    for (let i = 0; i < flat.length; i += 3) {
      const [to, from, value] = flat.slice(i, i + 3), part = now.head ? heads[now.layer][i / 3][now.head - 1] : null;
      const kind = anchors.has(to) ? "wp" : to === target && anchors.has(from) ? "pq" : "ww";
      const sign = part === null ? signs[now.layer]?.[i / 3] ?? "" : part < 0 ? "-" : "+";
      if (shared.kinds.has(kind) && part !== 0) kept.push({ to, from, value: part === null ? value : Math.abs(part), kind, sign: shared.signed ? sign : "" });
    }
    return kept.sort((a, b) => b.value - a.value).slice(0, shared.count);
  }

  function draw() {
    const { example } = now, n = example.layers.length, total = example.totals[now.layer];
    drawn = flows();
    drawLayers();
    layerText.textContent = `Layer ${numbered(now.layer)}${example.numbers.length ? `, attention layer ${now.layer + 1}` : ""} of ${n}`;
    layer.setAttribute("aria-valuetext", layerText.textContent);
    const carried = total ? drawn.reduce((sum, flow) => sum + flow.value, 0) / total : 0;
    counted.textContent = now.head ? `Lines: ${drawn.length}, as head ${now.head} carries them` : `Lines: ${drawn.length}, together ${percent(carried)} of the layer's flow`;
    prompt.draw(drawn, { total: now.head ? 0 : total, formula: formula(), pictured: shared.signed && drawn.some(({ sign }) => sign) });
    drawList();
    prompt.rest(); // with the list's rows
  }

  function formula() {
    return now.head ? `|A ⊙ ∂L/∂A| of head ${now.head}` : "I";
  }

  function drawList() {
    const { means, pairs, totals } = now.example, signed = shared.signed && drawn.some(({ sign }) => sign);
    const rows = drawn.slice(0, LISTED).map((flow) => {
      const row = el("tr", { onpointerenter: () => prompt.look((other) => other === flow), onpointerleave: () => prompt.rest(), title: prompt.described(flow) },
        el("td", {}, dot(flow.kind), prompt.word(flow.from)), el("td", {}, prompt.word(flow.to)),
        el("td", { class: "number" }, (signed ? (flow.sign === "-" ? "−" : "+") : "") + exact(flow.value)),
        now.head ? null : el("td", { class: "number" }, percent(flow.value / totals[now.layer])));
      flow.row = row;
      return row;
    });
    const heads = ["from", "to", now.head ? "|A⊙∂L/∂A|" : "I", ...(now.head ? [] : ["share"])].map((name, i) => el("th", { scope: "col", class: i > 1 ? "number" : null }, name));
    const sums = Object.entries(KINDS).map(([kind, { key, text }], k) => el("tr", {}, el("th", { scope: "row", title: text }, dot(kind), key),
      el("td", { class: "number" }, exact(means[k][now.layer])), el("td", { class: "number" }, pairs[k].toLocaleString("en")), el("td", { class: "number" }, percent(share(k, now.layer)))));
    const kinds = ["", "mean I", "pairs", "share"].map((name, i) => (name ? el("th", { scope: "col", class: i ? "number" : null }, name) : el("td")));
    list.replaceChildren(el("h4", {}, "Strongest flows"), el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)),
      el("h4", {}, "The whole layer, all heads"), el("table", { class: "sums" }, el("thead", {}, el("tr", {}, ...kinds)), el("tbody", {}, ...sums)),
      el("p", { class: "note" }, "share: mean × pairs, of the layer's flow"));
  }

  const panel = {
    node, refresh, draw,
    example: () => now.example,
    name: () => `${named(runOf(now.example))}-row${now.example.query}-layer${numbered(now.layer)}`,
    depth: () => now.layer / Math.max(1, now.example.layers.length - 1),
    toDepth(depth) { toLayer(Math.round(depth * (now.example.layers.length - 1))); draw(); },
    remove() {
      observer.disconnect();
      node.remove();
      for (const name of ["run", "row", "layer", "head", "token"]) state.set(`${prefix}.${name}`);
    },
  };
  return panel;
}
