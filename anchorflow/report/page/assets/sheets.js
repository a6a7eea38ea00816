"use strict";
// The report's tables, and what was left out of it.

function sheetsSection() {
  const usual = data.sheets.filter(({ name }, i) => i === 0 || name === "published").map(({ name }) => name);
  const opened = state.all("open");
  const sheets = data.sheets.map((sheet) => {
    const box = el("details", { ontoggle: () => { if (box.children.length < 2) fill(box, sheet); keep(); } }, el("summary", {}, visible(sheet.title)));
    box.open = opened.length ? opened.includes(sheet.name) : usual.includes(sheet.name);
    return box;
  });

  function keep() {
    const open = data.sheets.filter((_, i) => sheets[i].open).map(({ name }) => name);
    state.set("open", ...(open.join() === usual.join() ? [] : open.length ? open : [""]));
  }
  byId("sheet-view").replaceChildren(...sheets);
  if (!sheets.length) byId("sheet-view").append(el("p", { class: "note" }, "There are no tables."));
}

/** A table's rows are made when it is opened: there may be thousands. */
function fill(box, { name, title, columns, rows, more, notes }) {
  const numeric = columns.map((_, i) => rows.some((row) => typeof row[i] !== "string"));
  const cells = rows.map((row) => row.map((cell) => {
    if (typeof cell === "string") return { text: cell, sort: cell };
    const [value, stderr, aside] = Array.isArray(cell) ? cell : [cell];
    return { text: measured(value, stderr) + (aside ? ` (${aside})` : ""), sort: value, stderr };
  }));
  const { table, shown } = sortable(name, columns.map((name, i) => ({ name, numeric: numeric[i] })), cells);
  const place = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": visible(title) }, table);
  box.append(el("div", { class: "controls" }, copying(shown)), place, ...notes.map((note) => el("p", { class: "note" }, visible(note))));
  if (more) box.append(el("p", { class: "note" }, `${plural(more, "more row")} in the CSV file.`));
}

function restSection() {
  const list = (title, lines) => lines.length ? [el("h3", {}, title), el("ul", { class: "places" }, ...lines.map((line) => el("li", {}, visible(line))))] : [];
  const incomplete = data.incomplete.map(([path, reason]) => `${path}: ${reason}`);
  const parts = [
    ...list(`Incomplete runs, not counted (${incomplete.length})`, incomplete),
    ...list(`Problems (${data.problems.length})`, data.problems),
    ...list(`Directories that are one run (${data.merged.length})`, data.merged),
    ...list("For the size of this page", data.thinned),
  ];
  byId("rest-view").replaceChildren(...(parts.length ? parts : [el("p", { class: "note" }, "Nothing: every run that was found is complete and counted.")]));
}
sections.sheets = sheetsSection;
sections.rest = restSection;
