"use strict";
// Confusion matrices of one run at a time, as tables that can be read without colours.

function matricesSection() {
  const view = byId("matrix-view");
  let current = null;

  function draw() {
    const runs = shownRuns().filter((run) => run.matrices.length);
    if (!runs.length) {
      const have = data.experiments.filter((_, i) => data.runs.some((run) => cellOf(run).experiment === i && run.matrices.length));
      const names = have.map(({ name }) => visible(name)).join(" or ");
      view.replaceChildren(el("p", { class: "note" }, names ? `No shown run has a confusion matrix; choose the experiment ${names} above.` : "No run has a confusion matrix."));
      return;
    }
    if (!runs.includes(current)) current = runs[0];
    const options = runs.map((run) => `${cellName(cellOf(run))}, seed ${run.seed}`);
    const choice = select("run", options, runs.indexOf(current), (i) => { current = runs[i]; draw(); view.querySelector("select").focus(); });
    const tables = current.matrices.map((matrix) =>
      el("div", {}, el("h3", {}, visible(matrix.heading)), el("div", { class: "scroll" }, table(matrix))));
    view.replaceChildren(el("div", { class: "controls" }, choice), el("div", { class: "matrices" }, ...tables));
  }

  function table({ rows, columns, values }) {
    const head = columns.map((name) => el("th", { scope: "col", title: visible(name) }, shortened(name, 24)));
    const body = rows.map((name, i) => el("tr", {}, el("th", { scope: "row", title: visible(name) }, shortened(name, 24)), ...values[i].map(cell)));
    return el("table", { class: "matrix" }, el("thead", {}, el("tr", {}, el("td"), ...head)), el("tbody", {}, ...body));
  }

  function cell(value) {
    const node = el("td", {}, value == null ? "–" : value.toFixed(2));
    node.style.background = value == null ? "var(--panel)" : `rgba(var(--heat), ${0.6 * Math.max(0, Math.min(1, value))})`;
    return node;
  }

  chosen.listeners.push(draw);
  draw();
}
