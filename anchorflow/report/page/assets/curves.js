"use strict";
// Curves over layers, k, epochs or numbers of examples: a panel for each measure, a line for each run or mean over seeds.

// A colour (and beyond eight, a marker) belongs to a cell, a dash to a variant, whatever is ticked.
const COLOURS = 8; // in page.css, and cells from which on each dataset has panels of its own
const DASHES = ["solid", "8px,4px", "2px,3px", "8px,3px,2px,3px", "14px,4px", "14px,3px,2px,3px", "4px,4px", "8px,3px,2px,3px,2px,3px", "2px,7px", "20px,5px"];
const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "x", "star", "hourglass"];
const SIGNS = ["●", "■", "◆", "▲", "✚", "✖", "★", "⧗"];
const MOST_LINES = 240;
const FEW = 10; // places of an axis that each have a tick

function curvesSection() {
  const controls = byId("curve-controls");
  const figure = byId("curve-figure");
  const caption = byId("curve-caption");
  const off = new Set(state.all("off.curve")); // panels and variants that are not ticked
  const usual = data.cells.some((cell) => cell.runs > 1);
  let means = state.get("lines") ? state.get("lines") === "means" : usual;

  function drawControls() {
    const { panels, variants } = data.experiments[chosen.experiment];
    const toggle = (key) => (on) => { on ? off.delete(key) : off.add(key); draw(); };
    const boxes = (kind, names) => names.map((name) => chip("checkbox", name, !off.has(`${kind} ${name}`), toggle(`${kind} ${name}`)));
    const kinds = [["each run", false], ["mean over seeds", true]].map(([text, value]) =>
      chip("radio", text, means === value, () => { means = value; draw(); }, { name: "line" }));
    controls.replaceChildren(el("div", { class: "controls" },
      fieldset("line", ...kinds),
      panels.length > 1 ? fieldset("panel", ...boxes("panel", panels)) : null,
      variants.length > 1 ? fieldset("curve", ...boxes("variant", variants)) : null,
      saving(() => byId("curve-picture"), () => `curves-${data.experiments[chosen.experiment].name}`)));
  }

  /** The lines to draw: {cell, label, at, values, stderr} of one curve's name. */
  function lines(name, runs) {
    const having = runs.filter((run) => Object.hasOwn(run.curves, name));
    const parts = means ? [...Map.groupBy(having, (run) => run.cell).values()] : having.map((run) => [run]);
    return parts.map((part) => {
      const cell = cellOf(part[0]);
      const label = part.length > 1 ? `${cellName(cell)}, mean of ${part.length} seeds` : named(part[0]);
      const of = (curve) => part.map((run) => run.curves[curve]);
      const base = data.experiments[chosen.experiment].curves[name].of;
      const found = part.length === 1 ? one(...of(name)) : base ? contribution(of(base)) : mean(of(name), cell.over === "seeds");
      return { cell: part[0].cell, label, ...found };
    });
  }

  const one = ([axis, values, stderr]) => ({ at: data.axes[axis], values, stderr });

  /** Over the places that all have; standard errors over seeds where these are independent. */
  function mean(curves, independent) {
    const maps = curves.map(([axis, values]) => new Map(data.axes[axis].map((at, i) => [at, values[i]])));
    const at = data.axes[curves[0][0]].filter((place) => maps.every((map) => map.has(place)));
    const values = [], stderr = [];
    for (const place of at) {
      const known = maps.map((map) => map.get(place)).filter((value) => value != null);
      const middle = known.length ? known.reduce((sum, value) => sum + value, 0) / known.length : null;
      const squares = known.reduce((sum, value) => sum + (value - middle) ** 2, 0);
      values.push(middle);
      stderr.push(known.length > 1 ? Math.sqrt(squares / (known.length - 1) / known.length) : null);
    }
    return { at, values, stderr: independent ? stderr : null };
  }

  /** The share of layers 1 to l in the rise of the mean curve above 0.5; undefined where that is less than its standard error. */
  function contribution(curves) {
    const known = curves.filter(([, values]) => values.every((value) => value != null));
    const { at, values } = mean(known.length ? known : curves, false);
    const rise = (numbers) => numbers.reduce((sum, value) => sum + value - 0.5, 0);
    const wholes = known.map(([, numbers]) => rise(numbers)), whole = rise(values);
    const squares = wholes.reduce((sum, value) => sum + (value - whole) ** 2, 0);
    const sure = known.length && whole && Math.abs(whole) >= (known.length > 1 ? Math.sqrt(squares / (known.length - 1) / known.length) : 0);
    return { at, values: at.map((_, i) => (sure ? rise(values.slice(0, i + 1)) / whole : null)), stderr: null };
  }

  function draw() {
    const { panels, variants, curves, diagonal } = data.experiments[chosen.experiment] ?? { panels: [], variants: [], curves: {}, diagonal: [] };
    const runs = shownRuns();
    const shown = variants.filter((variant) => !off.has(`variant ${variant}`));
    const every = data.cells.flatMap((cell, i) => (cell.experiment === chosen.experiment ? [i] : []));
    const cells = every.filter((cell) => runs.some((run) => run.cell === cell));
    const faceted = every.length > COLOURS && new Set(every.map((cell) => data.cells[cell].dataset)).size > 1;
    const keyed = (cell) => { const { model, dataset, settings } = data.cells[cell]; return cellName({ model, dataset: faceted ? "" : dataset, settings }); };
    const keys = [...new Set(every.map(keyed))];
    const single = keys.length === 1 && variants.length > 1; // then colours tell the variants apart, too
    const datasets = faceted ? [...new Set(cells.map((cell) => data.cells[cell].dataset))] : [null];
    const open = panels.filter((panel) => !off.has(`panel ${panel}`)).flatMap((panel) => datasets.map((dataset) => ({ panel, dataset })));
    const styled = (cell, variant) => {
      const i = single ? variants.indexOf(variant) : keys.indexOf(keyed(cell)), turns = Math.floor(i / COLOURS);
      return { stroke: colour(`line${i % COLOURS}`), symbol: turns % SYMBOLS.length, dash: DASHES[variants.indexOf(variant) % DASHES.length] };
    };
    const traces = [], seen = new Set();
    let count = 0, left = 0;
    for (const [name, { panel, variant, log }] of Object.entries(curves)) {
      if (!shown.includes(variant) || off.has(`panel ${panel}`)) continue;
      for (const line of lines(name, runs)) {
        if (++count > MOST_LINES) { left++; continue; }
        const place = open.findIndex((one) => one.panel === panel && (!faceted || one.dataset === data.cells[line.cell].dataset));
        seen.add(variant);
        traces.push(...drawn(line, { axis: place ? place + 1 : "", log, ...styled(line.cell, variant), variant }));
      }
    }
    for (const [place, { panel }] of open.entries()) {
      if (diagonal.includes(panel)) traces.unshift(identity(place ? place + 1 : ""));
    }
    const inOrder = variants.filter((variant) => seen.has(variant));
    const ofVariants = inOrder.map((variant) => ({ text: variant || cellName(data.cells[cells[0]]), ...styled(cells[0], variant) }));
    const ofKeys = keys.filter((key) => cells.some((cell) => keyed(cell) === key)).map((key) => {
      const { stroke, symbol } = styled(every.find((cell) => keyed(cell) === key), variants[0]);
      return { text: key, stroke, symbol, dash: DASHES[0] };
    });
    const dashes = variants.length > 1 ? ofVariants.map(({ text, dash }) => ({ text, stroke: colour("faint"), symbol: 0, dash })) : [];
    legend(!seen.size ? [] : single ? ofVariants : [...ofKeys, ...dashes], left);
    const bands = traces.some(({ fill }) => fill) ? `Bands: ± one standard error, ${means ? "over seeds where a line is a mean over several, else over a run's queries" : "over a run's queries or repetitions"}. ` : "";
    const dotted = open.some(({ panel }) => diagonal.includes(panel)) ? " Dotted: y = x, where a perfect curve lies." : "";
    caption.textContent = seen.size ? `${bands}Lines are not smoothed.${dotted}` : "";
    state.set("off.curve", ...off);
    state.set("lines", means === usual ? null : means ? "means" : "runs");
    figure.setAttribute("aria-label", `Curves of ${plural(new Set(runs.map((run) => run.cell)).size, "cell")}: ${open.map(({ panel }) => panel).filter((panel, i, all) => all.indexOf(panel) === i).join(", ")}. The tables below have the numbers.`);
    figure.hidden = !traces.length;
    if (!traces.length) return;
    const width = figure.clientWidth || 900;
    const columns = Math.min(open.length, width > 980 ? 3 : width > 620 ? 2 : 1);
    Plotly.react(figure, traces, layout(open, curves, traces, columns, width), { displaylogo: false, responsive: false, displayModeBar: false });
  }

  /** A band of standard errors, where there are any, and the line itself. On a log axis there is no place for 0 or less. */
  function drawn({ label, at, values, stderr }, { axis, log, dash, stroke, symbol, variant }) {
    const trace = { type: "scatter", xaxis: `x${axis}`, yaxis: `y${axis}`, showlegend: false };
    const known = values.map((value) => value != null && (!log || value > 0));
    const line = {
      ...trace,
      x: at,
      y: values.map((value, i) => (known[i] ? value : null)),
      mode: at.length > 60 && !symbol ? "lines" : "lines+markers",
      marker: { size: symbol ? 7 : 4, color: stroke, symbol: SYMBOLS[symbol], maxdisplayed: at.length > 60 ? 12 : 0 },
      line: { color: stroke, width: 2, dash },
      meta: plain(variant ? `${label}, ${variant}` : label),
      customdata: at.map((_, i) => number(stderr?.[i])),
      hovertemplate: "%{meta}<br>%{xaxis.title.text} %{x}: <b>%{y:.4g}</b> ± %{customdata}<extra></extra>",
    };
    if (!stderr) return [line];
    const places = at.map((_, i) => i).filter((i) => known[i] && stderr[i] != null && (!log || values[i] > stderr[i]));
    const x = places.map((i) => at[i]);
    const edge = (sign) => places.map((i) => values[i] + sign * stderr[i]);
    const band = {
      ...trace,
      x: [...x, ...x.toReversed()],
      y: [...edge(1), ...edge(-1).toReversed()],
      fill: "toself",
      fillcolor: `${stroke}2b`,
      line: { width: 0 },
      mode: "lines",
      hoverinfo: "skip",
    };
    return [band, line];
  }

  /** What is right as often as it is sure lies on it. */
  function identity(axis) {
    const line = { color: colour("faint"), width: 1, dash: "dot" };
    return { type: "scatter", xaxis: `x${axis}`, yaxis: `y${axis}`, x: [0, 1], y: [0, 1], mode: "lines", line, hoverinfo: "skip", showlegend: false };
  }

  function layout(open, curves, traces, columns, width) {
    const rows = Math.ceil(open.length / columns), height = 52 + rows * 300;
    const made = {
      width, height, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", hovermode: "closest", annotations: [],
      font: { family: "system-ui, sans-serif", size: 12, color: colour("ink") }, margin: { l: 8, r: 8, t: 36, b: 16 },
      hoverlabel: { align: "left", namelength: -1 },
    };
    const gap = 74 / width, between = 70 / height;
    open.forEach(({ panel, dataset }, i) => {
      const row = Math.floor(i / columns), column = i % columns, axis = i ? i + 1 : "";
      const { x, log } = Object.values(curves).find((curve) => curve.panel === panel);
      const wide = (1 - gap * columns) / columns, high = (1 - between * rows) / rows;
      const left = (column + 1) * gap + column * wide, top = 1 - row * (high + between);
      const grid = { gridcolor: colour("line"), linecolor: colour("line"), zerolinecolor: colour("line"), automargin: false };
      made[`xaxis${axis}`] = { ...grid, domain: [left, left + wide], anchor: `y${axis}`, title: { text: plain(x), standoff: 6 } };
      const lines = traces.filter((trace) => trace.xaxis === `x${axis}` && trace.meta);
      const places = lines.flatMap((trace) => trace.x);
      if (places.every(Number.isInteger) && Math.max(...places) - Math.min(...places) <= FEW) made[`xaxis${axis}`].dtick = 1; // no tick at 1.5
      if (x === "layer") made[`xaxis${axis}`].minallowed = 0.5;  // layers count from 1: no tick at 0
      made[`yaxis${axis}`] = { ...grid, domain: [top - high, top], anchor: `x${axis}`, type: log ? "log" : "linear", exponentformat: "power", title: { text: plain(panel), standoff: 4 } };
      if (lines.length && lines.every((trace) => trace.y.every((value) => value == null))) {
        made[`yaxis${axis}`].showticklabels = false;
        made.annotations.push({ text: log ? "undefined, or not above 0" : "undefined here", showarrow: false, xref: `x${axis} domain`, yref: `y${axis} domain`, x: 0.5, y: 0.5, font: { color: colour("faint") } });
      }
      made.annotations.push({ text: `<b>${plain(dataset ?? panel)}</b>`, showarrow: false, xref: "paper", yref: "paper", x: left, y: top, xanchor: "left", yanchor: "bottom" });
    });
    return made;
  }

  function legend(entries, left) {
    const sample = ({ stroke, dash, symbol }) => {
      const picture = svg("svg", { class: "swatch", viewBox: "0 0 52 12", "aria-hidden": "true" });
      picture.append(svg("line", { x1: 0, x2: 52, y1: 6, y2: 6, "stroke-width": 2, stroke, "stroke-dasharray": dash === "solid" ? "" : dash.replaceAll("px", "") }));
      if (symbol) {
        const sign = svg("text", { x: 26, y: 10.5, "text-anchor": "middle", "font-size": 12, fill: stroke });
        sign.textContent = SIGNS[symbol];
        picture.append(sign);
      }
      return picture;
    };
    byId("curve-legend").replaceChildren(...entries.map((entry) => el("span", {}, sample(entry), isolated(entry.text))));
    if (!entries.length) byId("curve-legend").append(el("span", { class: "note" }, "No shown run of this experiment has a curve."));
    if (left) byId("curve-legend").append(el("span", { class: "note" }, `${plural(left, "more line")} not drawn; untick some runs or curves.`));
  }

  /** Plotly reads tags in texts; here they are signs like any other. */
  function plain(text) {
    return shortened(text, 90).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  }

  let known = chosen.experiment;
  chosen.listeners.push(() => {
    if (known !== chosen.experiment) { off.clear(); known = chosen.experiment; drawControls(); }
    draw();
  });
  new ResizeObserver(() => { if (figure.data && Math.abs(figure.clientWidth - figure.layout.width) > 1) draw(); }).observe(figure);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  if (data.runs.length) drawControls();
  draw();
}
sections.curves = curvesSection;
