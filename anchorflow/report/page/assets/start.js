"use strict";
// One section after the other, those that this page has.

byId("summary").textContent = [
  plural(data.runs.length, "run"),
  `of ${plural(data.experiments.length, "experiment")}`,
  `on ${plural(new Set(data.cells.map(({ model }) => model)).size, "model")} and ${plural(new Set(data.cells.map(({ dataset }) => dataset)).size, "dataset")}`,
  ...(data.incomplete.length ? [`· ${plural(data.incomplete.length, "run")} incomplete`] : []),
  ...(data.problems.length ? [`· ${plural(data.problems.length, "problem")}`] : []),
].join(" ");
for (const [id, draw] of Object.entries(sections)) if (byId(id)) draw();
navigation();
