"use strict";
// The information-flow view: a prompt's tokens, and the strongest flows between them in the layer that the slider shows.

const KINDS = {
  wp: { text: "words → label words", key: "S_wp" },
  pq: { text: "label words → target", key: "S_pq" },
  ww: { text: "words → words", key: "S_ww" },
};
const LISTED = 12;

function flowSection() {
  const view = byId("flow-view");
  if (!data.examples.length) {
    view.append(el("p", { class: "note" }, "No run kept an example of its flows: experiment.keep_examples says how many are kept."));
    return;
  }
  const runs = [...new Set(data.examples.map((example) => example.run))];
  const now = { run: runs[0], example: null, layer: 0, count: 40, kinds: new Set(Object.keys(KINDS)), token: null };

  // The parts that stay while another example is chosen.
  const choices = el("div", { class: "controls" });
  const kinds = fieldset("flows", ...Object.entries(KINDS).map(([kind, { text }]) => chip("checkbox", text, true, (on) => {
    on ? now.kinds.add(kind) : now.kinds.delete(kind);
    draw();
  }, { look: dot(kind) })));
  const count = el("input", { type: "range", min: 5, max: 200, step: 5, value: now.count, id: "flow-count", oninput: () => { now.count = Number(count.value); draw(); } });
  const counted = el("output", { for: "flow-count" });
  const layer = el("input", { type: "range", min: 1, step: 1, id: "flow-layer", "aria-label": "layer", oninput: () => { now.layer = layer.value - 1; draw(); } });
  const layers = el("div", { class: "layers" });
  const layerText = el("output", { for: "flow-layer", id: "flow-layer-text" });
  const axis = el("div", { class: "axis" });
  const verdict = el("p", { class: "verdict", id: "flow-verdict" });
  const prompt = el("div", { class: "prompt", id: "flow-prompt", role: "group", "aria-label": "prompt, token by token; arrow keys go from token to token" });
  const list = el("div", { class: "strongest", id: "flow-list" });
  view.append(choices, verdict, el("div", { class: "controls" }, kinds, el("label", {}, "strongest", count, counted)),
    el("div", { class: "controls" }, el("strong", {}, layerText)), layers, axis, el("div", { class: "flow-body" }, prompt, list));

  const predicted = ({ probs, names }) => names[probs.indexOf(Math.max(...probs))];
  const ofRun = () => data.examples.filter((example) => example.run === now.run);

  function drawChoices() {
    const names = runs.map((run) => `${cellName(cellOf(data.runs[run]))}, seed ${data.runs[run].seed}`);
    const own = ofRun();
    const texts = own.map((example) => `${queryText(example)}  (row ${example.query})`);
    const focused = [...choices.querySelectorAll("select")].indexOf(document.activeElement);
    choices.replaceChildren(
      select("run", names, runs.indexOf(now.run), (i) => { now.run = runs[i]; choose(ofRun()[0]); }),
      select("query", texts, own.indexOf(now.example), (i) => choose(ofRun()[i])));
    if (focused >= 0) choices.querySelectorAll("select")[focused].focus();
  }

  function choose(example) {
    const { length } = example.layers;
    now.layer = now.example ? Math.min(now.layer, length - 1) : Math.floor(length / 2);
    Object.assign(now, { example, token: null });
    layer.max = length;
    layer.value = now.layer + 1;
    count.max = Math.max(5, ...example.layers.map((flows) => flows.length / 3));
    drawChoices();
    drawVerdict();
    drawLayers();
    drawPrompt();
    draw();
  }

  function drawVerdict() {
    const { probs, label, names } = now.example;
    const others = probs.map((p, i) => `${shortened(names[i], 30)} ${p.toFixed(3)}`).join(", ");
    verdict.replaceChildren("predicted ", el("strong", { class: predicted(now.example) === names[label] ? "right" : "wrong" }, shortened(predicted(now.example), 30)),
      `, true label ${shortened(names[label], 30)}; probabilities: ${others}`);
  }

  /** The model's own number of a layer: not all layers of a hybrid model have attention maps. */
  function numbered(i) {
    return now.example.numbers[i] || i + 1;
  }

  /** Shares of the three kinds in every layer, as bars behind the slider: its thumb frames the layer that is shown. */
  function drawLayers() {
    const { means } = now.example;
    const n = means[0].length;
    const bars = svg("svg", { viewBox: `0 0 ${n} 1`, preserveAspectRatio: "none", "aria-hidden": "true" });
    for (let i = 0; i < n; i++) {
      const total = means.reduce((sum, mean) => sum + mean[i], 0) || 1;
      let top = 0;
      Object.keys(KINDS).forEach((kind, k) => {
        const height = means[k][i] / total;
        bars.append(svg("rect", { x: i + 0.05, width: 0.9, y: top, height, fill: `var(--${kind})` }));
        top += height;
      });
    }
    layers.replaceChildren(bars, layer);
    axis.replaceChildren(el("span", {}, `layer ${numbered(0)}`), el("span", {}, "bars: shares of mean flow in this prompt"), el("span", {}, `layer ${numbered(n - 1)}`));
    sizeThumb();
  }

  function sizeThumb() {
    layer.style.setProperty("--thumb", `${Math.max(8, layers.clientWidth / now.example.layers.length)}px`);
  }

  /** A row for each demonstration and the query: its text on the left, its label word in a column of its own. */
  function drawPrompt() {
    const { tokens, demonstrations } = now.example;
    const target = tokens.length - 1, anchors = new Map(demonstrations.map((d) => [d.anchor, d]));
    const spans = tokens.map((text, i) => {
      const shown = visible(text) || "·";
      const role = anchors.has(i) ? "label" : i === target ? "target" : /^\s*$/.test(text) ? "mark" : "";
      return el("span", { class: `token ${role}`, tabindex: i ? -1 : 0, "data-token": i }, role === "label" || role === "target" ? shown.trim() : shown);
    });
    const last = demonstrations.at(-1);
    const tail = demonstrations[0].anchor - demonstrations[0].tail; // formatting in front of a label word
    const rows = [...demonstrations.map((d, i) => [i ? d.start : 0, d.tail, d.stop]), [last.stop, Math.max(last.stop, tokens.length - tail), tokens.length]];
    prompt.replaceChildren(svg("svg", { "aria-hidden": "true" }), ...rows.flatMap(([start, middle, stop]) => [
      el("div", {}, ...spans.slice(start, middle)), el("div", { class: "answer" }, el("div", {}, ...spans.slice(middle, stop))),
    ]));
    prompt.lastChild.append(el("span", { class: "prediction" }, `${shortened(predicted(now.example), 20)}?`));
  }

  /** The flows to draw, strongest first: {to, from, value, kind}. */
  function flows() {
    const { layers: all, demonstrations, tokens } = now.example;
    const anchors = new Set(demonstrations.map((d) => d.anchor)), target = tokens.length - 1, found = [], flat = all[now.layer];
    for (let i = 0; i < flat.length && found.length < now.count; i += 3) {
      const [to, from, value] = flat.slice(i, i + 3);
      const kind = anchors.has(to) ? "wp" : to === target && anchors.has(from) ? "pq" : "ww";
      if (now.kinds.has(kind)) found.push({ to, from, value, kind });
    }
    return found;
  }

  function draw() {
    const { example } = now, n = example.layers.length, drawn = flows(), total = example.totals[now.layer];
    layerText.textContent = `Layer ${numbered(now.layer)}${now.example.numbers.length ? `, attention layer ${now.layer + 1}` : ""} of ${n}`;
    layer.setAttribute("aria-valuetext", layerText.textContent);
    const carried = total ? drawn.reduce((sum, flow) => sum + flow.value, 0) / total : 0;
    counted.textContent = `${drawn.length}, together ${percent(carried)} of the layer's flow`;
    drawArcs(drawn);
    drawList(drawn);
    look(null);
  }

  function drawArcs(drawn) {
    const picture = prompt.querySelector("svg"), place = places(), largest = drawn[0]?.value || 1;
    const arcs = drawn.map((flow) => {
      const strength = Math.sqrt(flow.value / largest);
      const d = path(place(flow.from), place(flow.to), flow);
      const arc = svg("path", { class: "arc", d, stroke: `var(--${flow.kind})`, "stroke-width": 0.6 + 4.4 * strength, opacity: 0.2 + 0.7 * strength,
        "data-from": flow.from, "data-to": flow.to });
      const hit = svg("path", { class: "hit", d });
      hit.addEventListener("pointermove", (event) => { look((other) => other === flow); tip.show(described(flow), event); });
      hit.addEventListener("pointerleave", () => { look(null); tip.hide(); });
      flow.arc = arc;
      return [arc, hit];
    }).reverse(); // the strongest lies on top
    picture.replaceChildren(...arcs.map(([arc]) => arc), ...arcs.map(([, hit]) => hit));
  }

  /** A function from a token's number to its box within the prompt. */
  function places() {
    const frame = prompt.getBoundingClientRect();
    const spans = [...prompt.querySelectorAll(".token")].sort((a, b) => a.dataset.token - b.dataset.token);
    return (i) => {
      const box = spans[i].getBoundingClientRect();
      const [left, right, top, bottom] = [box.left - frame.left - 1, box.right - frame.left - 1, box.top - frame.top - 1, box.bottom - frame.top - 1];
      return { left, right, top, bottom, x: (left + right) / 2, y: (top + bottom) / 2, inColumn: spans[i].matches(".label, .target"), width: frame.width };
    };
  }

  /** From box to box: around the right side between label words and target, above a line within it, down across lines. */
  function path(a, b, { kind }) {
    const drop = b.y - a.y;
    if (a.inColumn && b.inColumn) {
      const edge = Math.max(a.right, b.right);
      const out = Math.min(edge + 16 + 0.22 * Math.abs(drop), a.width - 6);
      const reach = edge + (out - edge) * 1.33; // a cubic reaches three quarters of the way to its control points
      return `M${a.right},${a.y} C${reach},${a.y} ${reach},${b.y} ${b.right},${b.y}`;
    }
    if (Math.abs(drop) < 8) {
      const up = Math.min(10 + 0.12 * Math.abs(b.x - a.x), 34);
      return `M${a.x},${a.top} C${a.x + (b.x - a.x) * 0.2},${a.top - up} ${b.x - (b.x - a.x) * 0.2},${b.top - up} ${b.x},${b.top}`;
    }
    const bend = Math.max(14, 0.45 * drop);
    return `M${a.x},${a.bottom} C${a.x},${a.bottom + bend} ${b.x},${b.top - bend} ${b.x},${b.top}`;
  }

  const word = (i) => `“${shortened(now.example.tokens[i].trim() || now.example.tokens[i], 24) || "·"}”`;

  function described({ from, to, value, kind }) {
    const total = now.example.totals[now.layer];
    return `${word(from)} → ${word(to)}\n${KINDS[kind].text}\nI = ${exact(value)}, ${percent(total ? value / total : 0)} of the layer\npositions ${from + 1} → ${to + 1}`;
  }

  function drawList(drawn) {
    const { means, totals } = now.example;
    const rows = drawn.slice(0, LISTED).map((flow) => {
      const row = el("tr", { onpointerenter: () => look((other) => other === flow), onpointerleave: () => look(null), title: described(flow) },
        el("td", {}, dot(flow.kind), word(flow.from)), el("td", {}, word(flow.to)),
        el("td", { class: "number" }, exact(flow.value)), el("td", { class: "number" }, percent(flow.value / totals[now.layer])));
      flow.row = row;
      return row;
    });
    const heads = ["from", "to", "I", "share"].map((name, i) => el("th", { scope: "col", class: i > 1 ? "number" : null }, name));
    const sums = Object.entries(KINDS).map(([kind, { key, text }], k) =>
      el("div", {}, dot(kind), `${key} ${exact(means[k][now.layer])}`, el("span", { class: "note" }, `  ${text}`)));
    list.replaceChildren(el("h3", {}, "Strongest flows"), el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)),
      el("h3", {}, "Means of this layer"), ...sums);
    shown = drawn;
  }
  let shown = [];

  /** Bring out the flows that `which` picks, and their tokens; null brings out none. */
  function look(which) {
    const tokens = new Set();
    prompt.classList.toggle("looking", which !== null);
    for (const flow of shown) {
      const on = which !== null && which(flow);
      flow.arc.classList.toggle("looked", on);
      flow.row?.classList.toggle("looked", on);
      if (on) tokens.add(flow.from).add(flow.to);
    }
    for (const span of prompt.querySelectorAll(".token")) span.classList.toggle("looked", tokens.has(Number(span.dataset.token)));
  }

  function lookAt(span, event) {
    const i = Number(span.dataset.token), total = now.example.totals[now.layer] || 1;
    const share = (key) => percent(shown.filter((flow) => flow[key] === i).reduce((sum, flow) => sum + flow.value, 0) / total);
    look((flow) => flow.from === i || flow.to === i);
    span.classList.add("looked");
    const first = shown.filter((flow) => flow.from === i || flow.to === i).slice(0, 4);
    const lines = first.map((flow) => `${flow.from === i ? `→ ${word(flow.to)}` : `← ${word(flow.from)}`}  ${exact(flow.value)}`);
    tip.show([`${word(i)}, position ${i + 1}`, `of the layer's flow, among those drawn: sends ${share("from")}, receives ${share("to")}`, ...lines].join("\n"), event);
  }

  prompt.addEventListener("pointerover", (event) => event.target.matches(".token") && lookAt(event.target, event));
  prompt.addEventListener("pointerout", (event) => { if (event.target.matches(".token")) { look(null); tip.hide(); } });
  prompt.addEventListener("focusin", (event) => {
    const box = event.target.getBoundingClientRect();
    if (event.target.matches(":focus-visible")) lookAt(event.target, { clientX: box.right, clientY: box.bottom });
  });
  prompt.addEventListener("focusout", () => { look(null); tip.hide(); });
  prompt.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[event.key];
    if (!step || !event.target.matches(".token")) return;
    event.preventDefault();
    const i = Math.max(0, Math.min(now.example.tokens.length - 1, Number(event.target.dataset.token) + step));
    event.target.tabIndex = -1;
    const next = prompt.querySelector(`[data-token="${i}"]`);
    next.tabIndex = 0;
    next.focus();
  });
  new ResizeObserver(() => { sizeThumb(); draw(); }).observe(prompt);
  choose(ofRun()[0]);

  function dot(kind) {
    return el("span", { class: "dot", style: `background: var(--${kind})`, "aria-hidden": "true" });
  }

  /** What the prompt asks in the end: its own tokens without those in front of the label word. */
  function queryText({ tokens, demonstrations }) {
    const tail = demonstrations[0].anchor - demonstrations[0].tail;
    return shortened(tokens.slice(demonstrations.at(-1).stop, -tail || undefined).join("").trim(), 70);
  }
}
