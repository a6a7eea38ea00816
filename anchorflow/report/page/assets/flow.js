"use strict";
// The information-flow view: one prompt, or two side by side, and what is chosen for both.

const KINDS = {
  wp: { text: "words → label words", key: "S_wp" },
  pq: { text: "label words → target", key: "S_pq" },
  ww: { text: "words → words", key: "S_ww" },
};
const ORDER = Object.values(KINDS).map(({ text }) => text).join(", ");
const BARS = {
  share: { text: "share of the flow", caption: `Bars, from the top ${ORDER}: each kind's share of a layer's whole flow, the sum over its pairs. Lines: the strongest single flows of that sum.` },
  mean: { text: "mean per pair", caption: `Bars, from the top ${ORDER}: S_wp : S_pq : S_ww, means over the pairs of each kind, as in the curves and the paper. Lines are single flows: a kind with few pairs can have a high mean and a small sum.` },
};
const COUNT = 40;
const CIRCLE = "M2,6 a4,4 0 1,0 8,0 a4,4 0 1,0 -8,0";
const SHAPES = { wp: CIRCLE, pq: "M6,1.5 L10.5,6 L6,10.5 L1.5,6 Z", ww: CIRCLE }; // they tell the kinds apart without colour

function flowSection() {
  const view = byId("flow-view");
  if (!data.examples.length) {
    view.append(el("p", { class: "note" }, "No run kept an example of its flows: experiment.keep_examples says how many are kept."));
    return;
  }
  const off = state.all("flow.off"), panels = [];
  let two = Boolean(state.get("flow2.run"));
  const shared = {
    kinds: new Set(Object.keys(KINDS).filter((kind) => !off.includes(kind))),
    count: Math.max(1, state.number("flow.count") ?? COUNT),
    bars: state.get("flow.bars") === "mean" ? "mean" : "share",
    signed: state.get("flow.signed") === "1",
    /** The layer of one panel is that of the other, or the one as deep. */
    follow(from) {
      for (const panel of panels) if (panel !== from) panel.toDepth(from.depth());
    },
  };

  const kinds = fieldset("flows", ...Object.entries(KINDS).map(([kind, { text }]) => chip("checkbox", text, shared.kinds.has(kind), (on) => {
    on ? shared.kinds.add(kind) : shared.kinds.delete(kind);
    draw();
  }, { look: dot(kind) })));
  const most = Math.max(5, ...data.examples.flatMap((example) => example.layers.map((flows) => flows.length / 3)));
  const count = el("input", { type: "range", min: 5, max: Math.ceil(most / 5) * 5, step: 5, value: shared.count, id: "flow-count", oninput: () => { shared.count = Number(count.value); draw(); } });
  const bars = fieldset("bars", ...Object.entries(BARS).map(([name, { text }]) => chip("radio", text, shared.bars === name, () => { shared.bars = name; draw(); }, { name: "bars" })));
  const signed = data.examples.some(({ signs }) => signs.length) ? chip("checkbox", "signs", shared.signed, (on) => { shared.signed = on; draw(); }) : null;
  const second = data.examples.length > 1 ? chip("checkbox", "two side by side", two, (on) => { two = on; draw(); }) : null;
  const note = el("p", { class: "note", id: "flow-note", role: "status" });
  const body = el("div", { class: "panels", id: "flow-panels" });
  view.append(el("div", { class: "controls" }, kinds, el("label", {}, "strongest", count)),
    el("div", { class: "controls" }, bars, signed, second, saving(() => body, () => `flow-${panels.map((panel) => panel.name()).join("-")}`)), note, body);

  /** The kept prompts of the runs that are shown; where none of the experiment's runs keeps any, of those of others. */
  function candidates() {
    const runs = new Set(data.examples.map(({ run }) => run));
    const own = [...runs].some((run) => ofExperiment(data.runs[run]));
    return data.examples.filter(({ run }) => (!own || ofExperiment(data.runs[run])) && passes(data.runs[run]) && !chosen.hidden.has(data.runs[run]));
  }

  function draw() {
    const found = candidates();
    body.hidden = !found.length;
    note.textContent = found.length ? "" : "No run that is shown kept an example of its flows; tick one above.";
    state.set("flow.off", ...Object.keys(KINDS).filter((kind) => !shared.kinds.has(kind)));
    state.set("flow.count", shared.count === COUNT ? null : shared.count);
    state.set("flow.bars", shared.bars === "share" ? null : shared.bars);
    state.set("flow.signed", shared.signed ? 1 : null);
    if (!found.length) return;
    body.classList.toggle("two", two);
    while (panels.length > (two ? 2 : 1)) panels.pop().remove();
    while (panels.length < (two ? 2 : 1)) {
      const panel = flowPanel(panels.length ? "flow2" : "flow", shared, panels[0]);
      panels.push(panel);
      body.append(panel.node);
    }
    for (const panel of panels) if (!panel.refresh(found)) panel.draw();
  }

  chosen.listeners.push(draw);
  draw();
}
sections.flow = flowSection;

function dot(kind) {
  const picture = svg("svg", { class: `dot ${kind}`, viewBox: "0 0 12 12", "aria-hidden": "true" });
  picture.append(svg("path", { d: SHAPES[kind], fill: kind === "ww" ? "none" : `var(--${kind})`, stroke: `var(--${kind})`, "stroke-width": 2 }));
  return picture;
}
