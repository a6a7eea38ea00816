"use strict";
// The table of runs, and which of them are shown.

const chosen = {
  experiment: 0,
  hidden: new Set(), // runs whose box is not ticked
  off: { model: new Set(), dataset: new Set(), seed: new Set() },
  listeners: [],
};

const cellOf = (run) => data.cells[run.cell];
const valueOf = (run, key) => String(key === "seed" ? run.seed : cellOf(run)[key]);
const listed = () =>
  data.runs.filter((run) => cellOf(run).experiment === chosen.experiment &&
    Object.entries(chosen.off).every(([key, off]) => !off.has(valueOf(run, key))));
const shownRuns = () => listed().filter((run) => !chosen.hidden.has(run));
const changed = () => chosen.listeners.forEach((listener) => listener());

function cellName(cell) {
  return [cell.model, cell.dataset, cell.settings].filter(Boolean).join(" · ");
}

function runsSection() {
  const filters = byId("run-filters");
  const table = byId("run-table");
  if (!data.runs.length) {
    table.replaceChildren(el("p", { class: "note" }, "No complete run was found."));
    return;
  }

  function drawFilters() {
    const experiments = data.experiments.map(({ name, runs }, i) =>
      chip("radio", `${name} (${runs})`, i === chosen.experiment, () => choose(i), { name: "experiment" }));
    const ofExperiment = data.runs.filter((run) => cellOf(run).experiment === chosen.experiment);
    const toggles = Object.entries(chosen.off).map(([key, off]) => {
      const values = [...new Set(ofExperiment.map((run) => valueOf(run, key)))].sort((a, b) => compare(a, b));
      if (values.length < 2) return null;
      const boxes = values.map((value) => chip("checkbox", value, !off.has(value), (on) => {
        on ? off.delete(value) : off.add(value);
        drawTable();
        changed();
      }));
      return el("div", { class: "controls" }, fieldset(key, ...boxes));
    });
    filters.replaceChildren(el("div", { class: "controls" }, fieldset("experiment", ...experiments)), ...toggles.filter(Boolean));
  }

  function drawTable() {
    const { metrics } = data.experiments[chosen.experiment];
    const runs = listed();
    const boxes = runs.map((run) => el("input", {
      type: "checkbox",
      checked: !chosen.hidden.has(run),
      "aria-label": visible(`show ${cellName(cellOf(run))}, seed ${run.seed}`),
      onchange: (event) => { event.target.checked ? chosen.hidden.delete(run) : chosen.hidden.add(run); changed(); },
    }));
    const all = el("input", {
      type: "checkbox",
      checked: true,
      "aria-label": "show all runs of this table",
      onchange: (event) => {
        runs.forEach((run, i) => {
          boxes[i].checked = event.target.checked;
          event.target.checked ? chosen.hidden.delete(run) : chosen.hidden.add(run);
        });
        changed();
      },
    });
    const columns = [{ name: "shown", node: all }, ...["model", "dataset", "settings"].map((name) => ({ name })),
      { name: "seed", numeric: true }, { name: "queries", numeric: true },
      ...metrics.map((name) => ({ name, numeric: true })), { name: "directory" }];
    const rows = runs.map((run, i) => {
      const cell = cellOf(run);
      return [{ node: boxes[i], sort: 0 }, ...[cell.model, cell.dataset, cell.settings].map((text) => ({ text, sort: text })),
        { text: String(run.seed), sort: run.seed }, { text: run.queries == null ? "–" : String(run.queries), sort: run.queries },
        ...run.metrics.map(([value, stderr]) => ({ text: measured(value, stderr), sort: value })),
        { ...(run.url ? { node: link(run) } : { text: run.path }), sort: run.path }];
    });
    table.replaceChildren(sortable(columns, rows));
  }

  /** The directory, which leads to the run's page at its tracker. */
  function link(run) {
    const there = /^https?:/.test(run.url) ? { href: run.url } : {};
    return el("a", { ...there, rel: "noreferrer" }, isolated(run.path));
  }

  function choose(experiment) {
    chosen.experiment = experiment;
    Object.values(chosen.off).forEach((off) => off.clear());
    drawFilters();
    drawTable();
    filters.querySelector("input[type=radio]:checked").focus();
    changed();
  }

  drawFilters();
  drawTable();
}
