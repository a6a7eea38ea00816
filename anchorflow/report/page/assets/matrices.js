"use strict";
// Confusion matrices of one run at a time, as tables that can be read without colours.

function matricesSection() {
  const view = byId("matrix-view");
  let current = data.runs.find(({ id }) => id === state.get("matrix"));

  function draw() {
    const runs = shownRuns().filter((run) => run.matrices.length);
    if (!runs.length) {
      const have = data.experiments.filter((_, i) => data.runs.some((run) => cellOf(run).experiment === i && run.matrices.length));
      const names = have.map(({ name }) => visible(name)).join(" or ");
      view.replaceChildren(el("p", { class: "note" }, names ? `No shown run has a confusion matrix; choose the experiment ${names} above.` : "No run has a confusion matrix."));
      return;
    }
    if (!runs.includes(current)) current = runs[0];
    state.set("matrix", current === runs[0] ? null : current.id);
    const choice = select("run", runs.map(named), runs.indexOf(current), (i) => { current = runs[i]; draw(); view.querySelector("select").focus(); });
    const tables = current.matrices.map((matrix) =>
      el("div", {}, el("h3", {}, visible(matrix.heading)), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": visible(matrix.heading) }, table(matrix))));
    const picture = el("div", {}, el("p", { class: "note" }, visible(named(current))), el("div", { class: "matrices" }, ...tables));
    view.replaceChildren(el("div", { class: "controls" }, choice, saving(() => picture, () => `confusion-${named(current)}`)), picture);
  }

  function table({ rows, columns, values }) {
    const head = columns.map((name) => el("th", { scope: "col", title: visible(name) }, shortened(name, 24)));
    const body = rows.map((name, i) => el("tr", {}, el("th", { scope: "row", title: visible(name) }, shortened(name, 24)), ...values[i].map(cell)));
    return el("table", { class: "matrix" }, el("thead", {}, el("tr", {}, el("td", { class: "corner" }, "true ↓ predicted →"), ...head)), el("tbody", {}, ...body));
  }

  function cell(value) {
    const node = el("td", {}, value == null ? "–" : value.toFixed(2));
    node.style.background = value == null ? "var(--panel)" : `rgba(var(--heat), ${0.6 * Math.max(0, Math.min(1, value))})`;
    return node;
  }

  chosen.listeners.push(draw);
  draw();
}
sections.matrices = matricesSection;
