"use strict";
// The table of runs, and which of them are shown.

const chosen = {
  experiment: Math.max(0, data.experiments.findIndex(({ name }) => name === state.get("experiment"))),
  hidden: new Set(), // runs whose box is not ticked
  off: { model: new Set(state.all("off.model")), dataset: new Set(state.all("off.dataset")), seed: new Set(state.all("off.seed")) },
  words: state.get("find") ?? "",
  listeners: [],
};
for (const run of data.runs) {
  const [hide, only] = ["hide", "only"].map((name) => state.get(name)?.split("."));
  if (hide?.includes(run.id) || (only && !only.includes(run.id))) chosen.hidden.add(run);
}

const cellOf = (run) => data.cells[run.cell];
const valueOf = (run, key) => String(key === "seed" ? run.seed : cellOf(run)[key]);
const named = (run) => `${cellName(cellOf(run))}, seed ${run.seed}`;
const searched = (run) => `${named(run)} ${run.path}`.toLowerCase();
const ofExperiment = (run) => cellOf(run).experiment === chosen.experiment;

/** Whether the toggles and the search let the run pass, of whatever experiment it is. */
const passes = (run) => Object.entries(chosen.off).every(([key, off]) => !off.has(valueOf(run, key))) &&
  chosen.words.toLowerCase().split(/\s+/).every((word) => searched(run).includes(word));
const listed = () => data.runs.filter((run) => ofExperiment(run) && passes(run));
const shownRuns = () => listed().filter((run) => !chosen.hidden.has(run));

function changed() {
  state.set("experiment", chosen.experiment ? data.experiments[chosen.experiment].name : null);
  for (const [key, off] of Object.entries(chosen.off)) state.set(`off.${key}`, ...off);
  state.set("find", chosen.words || null);
  const [hidden, others] = [[...chosen.hidden], data.runs.filter((run) => !chosen.hidden.has(run))];
  const few = hidden.length <= others.length; // the shorter list
  state.set("hide", few && hidden.length ? hidden.map(({ id }) => id).join(".") : null);
  state.set("only", few ? null : others.map(({ id }) => id).join("."));
  chosen.listeners.forEach((listener) => listener());
}

function cellName(cell) {
  return [cell.model, cell.dataset, cell.settings].filter(Boolean).join(" · ");
}

function runsSection() {
  const filters = byId("run-filters");
  const table = byId("run-table");
  let shown = null;
  if (!data.runs.length) {
    table.replaceChildren(el("p", { class: "note" }, "No complete run was found."));
    return;
  }

  function drawFilters() {
    const experiments = data.experiments.map(({ name, runs }, i) =>
      chip("radio", `${name} (${runs})`, i === chosen.experiment, () => choose(i), { name: "experiment" }));
    const toggles = Object.entries(chosen.off).map(([key, off]) => {
      const values = [...new Set(data.runs.filter(ofExperiment).map((run) => valueOf(run, key)))].sort((a, b) => compare(a, b));
      if (values.length < 2) return null;
      const boxes = values.map((value) => chip("checkbox", value, !off.has(value), (on) => {
        on ? off.delete(value) : off.add(value);
        drawTable();
        changed();
      }));
      return el("div", { class: "controls" }, fieldset(key, ...boxes));
    });
    const search = el("input", { type: "search", id: "run-search", value: chosen.words, placeholder: "model, dataset, setting, seed, directory",
      oninput: () => { chosen.words = search.value.trim(); drawTable(); changed(); } });
    filters.replaceChildren(el("div", { class: "controls" }, fieldset("experiment", ...experiments)), ...toggles.filter(Boolean),
      el("div", { class: "controls" }, el("label", {}, "search", search), el("output", { for: "run-search", id: "run-count" }), copying(() => shown())));
  }

  function drawTable() {
    const { metrics } = data.experiments[chosen.experiment];
    const runs = listed();
    const boxes = runs.map((run) => el("input", {
      type: "checkbox",
      checked: !chosen.hidden.has(run),
      "aria-label": visible(`show ${named(run)}`),
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
    byId("run-count").textContent = `${runs.length.toLocaleString("en")} of ${plural(data.runs.filter(ofExperiment).length, "run")}`;
    const columns = [{ name: "shown", node: all }, ...["model", "dataset", "settings"].map((name) => ({ name })),
      { name: "seed", numeric: true }, { name: "queries", numeric: true },
      ...metrics.map((name) => ({ name, numeric: true })), { name: "directory" }];
    const rows = runs.map((run, i) => {
      const cell = cellOf(run);
      return [{ node: boxes[i], sort: 0 }, ...[cell.model, cell.dataset, cell.settings].map((text) => ({ text, sort: text })),
        { text: String(run.seed), sort: run.seed }, { text: run.queries == null ? "–" : String(run.queries), sort: run.queries },
        ...run.metrics.map(([value, stderr]) => ({ text: measured(value, stderr), sort: value, stderr })),
        { ...(run.url ? { node: link(run) } : { text: run.path }), sort: run.path }];
    });
    const made = sortable("runs", columns, rows);
    shown = made.shown;
    table.replaceChildren(made.table);
  }

  /** The directory, which leads to the run's page at its tracker. */
  function link(run) {
    const there = /^https?:/.test(run.url) ? { href: run.url } : {};
    return el("a", { ...there, rel: "noreferrer" }, isolated(run.path));
  }

  function choose(experiment) {
    chosen.experiment = experiment;
    Object.values(chosen.off).forEach((off) => off.clear());
    chosen.words = "";
    state.set("sort.runs");
    drawFilters();
    drawTable();
    filters.querySelector("input[type=radio]:checked").focus();
    changed();
  }

  drawFilters();
  drawTable();
}
sections.runs = runsSection;
