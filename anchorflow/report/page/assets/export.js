"use strict";
// What leaves the page: charts as SVG and PNG, tables as CSV and LaTeX.

const PAINT = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-opacity", "stroke-dasharray", "stroke-linecap", "opacity",
  "font-family", "font-size", "font-weight", "font-style", "text-anchor", "display", "visibility"];
const SCALE = 2; // a PNG's pixels for each of the screen's
const UNPAINTED = "input, .hit";

/** Buttons that save what `find` gives, an element as the page shows it, under a name. */
function saving(find, name) {
  const button = (kind, save) => el("button", { type: "button", title: `Save this chart as ${kind}`, onclick: () => save(find(), `${name().replace(/[^\w.-]+/g, "_")}.${kind.toLowerCase()}`) }, kind);
  return el("span", { class: "buttons" }, button("SVG", saveSvg), button("PNG", savePng));
}

function saveSvg(element, file) {
  download(new Blob([written(element)], { type: "image/svg+xml" }), file);
}

function savePng(element, file) {
  const image = new Image();
  image.onload = () => {
    const canvas = el("canvas", { width: image.width * SCALE, height: image.height * SCALE });
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    canvas.toBlob((blob) => download(blob, file), "image/png");
  };
  image.src = `data:image/svg+xml,${encodeURIComponent(written(element))}`;
}

function download(blob, file) {
  const href = URL.createObjectURL(blob);
  el("a", { href, download: file }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** As a file's text; controls have no place in it. */
function written(element) {
  element.classList.add("pictured");
  try {
    return new XMLSerializer().serializeToString(traced(element));
  } finally {
    element.classList.remove("pictured");
  }
}

const tenths = (length) => Math.round(10 * length) / 10;

/** The element as an SVG of its own: boxes, texts where they lie, pictures within it. */
function traced(root) {
  const frame = root.getBoundingClientRect(), margin = 12;
  const [width, height] = [root.scrollWidth + 2 * margin, root.scrollHeight + 2 * margin].map(Math.ceil);
  const out = svg("svg", { xmlns: "http://www.w3.org/2000/svg", width, height, viewBox: `0 0 ${width} ${height}` });
  const pen = document.createElement("canvas").getContext("2d");
  const at = ({ left, top, width, height }) => ({ x: tenths(left - frame.left + margin), y: tenths(top - frame.top + margin), width: tenths(width), height: tenths(height) });
  out.append(svg("rect", { width, height, fill: colour("paper") }));
  trace(root, 1);
  return out;

  function trace(node, above) {
    if (node.nodeType === Node.TEXT_NODE) return text(node, above);
    if (node.nodeType !== Node.ELEMENT_NODE || node.matches(UNPAINTED)) return;
    const style = getComputedStyle(node), opacity = above * style.opacity;
    if (style.display === "none" || style.visibility === "hidden") return;
    if (node instanceof SVGElement) return picture(node, opacity);
    box(node, style, opacity);
    node.childNodes.forEach((child) => trace(child, opacity));
  }

  function box(node, style, opacity) {
    const place = at(node.getBoundingClientRect()), rx = parseFloat(style.borderRadius) || 0;
    const seen = (paint) => !/^(transparent|rgba\(.*, 0\))$/.test(paint);
    const line = (side) => parseFloat(style[`border${side}Width`]);
    if (seen(style.backgroundColor)) out.append(svg("rect", { ...place, rx, fill: style.backgroundColor, opacity }));
    if (style.outlineStyle === "solid") out.append(svg("rect", { ...place, rx, fill: "none", stroke: style.outlineColor, "stroke-width": parseFloat(style.outlineWidth), opacity }));
    if (line("Left") && line("Top")) out.append(svg("rect", { ...place, rx, fill: "none", stroke: style.borderTopColor, "stroke-width": line("Top"), opacity }));
    for (const [side, y] of [["Top", place.y], ["Bottom", place.y + place.height]]) {
      if (line(side) && !line("Left")) out.append(svg("line", { x1: place.x, x2: place.x + place.width, y1: y, y2: y, stroke: style[`border${side}Color`], "stroke-width": line(side), opacity }));
    }
  }

  function text(node, opacity) {
    const range = document.createRange(), style = getComputedStyle(node.parentElement);
    range.selectNodeContents(node);
    const whole = range.getClientRects().length === 1;
    for (const { 0: word, index } of node.data.matchAll(whole ? /\S(.*\S)?/gs : /\S+/g)) {
      range.setStart(node, index);
      range.setEnd(node, index + word.length);
      const place = at(range.getClientRects()[0] ?? {});
      if (!place.width) continue;
      pen.font = `${style.fontStyle} ${style.fontWeight} ${style.fontSize} ${style.fontFamily}`;
      const { fontBoundingBoxAscent: up, fontBoundingBoxDescent: down } = pen.measureText(word);
      const made = svg("text", { x: place.x, y: tenths(place.y + (place.height + up - down) / 2), fill: style.color, opacity, "xml:space": "preserve",
        "font-family": style.fontFamily, "font-size": style.fontSize, "font-weight": style.fontWeight, "font-style": style.fontStyle });
      made.textContent = word;
      out.append(made);
    }
  }

  /** A copy that needs no style sheet. */
  function picture(node, opacity) {
    const copy = node.cloneNode(true), copies = copy.querySelectorAll("*");
    node.querySelectorAll("*").forEach((own, i) => {
      const style = getComputedStyle(own);
      for (const name of PAINT) copies[i].setAttribute(name, style.getPropertyValue(name));
    });
    copies.forEach((each) => (each.matches(UNPAINTED) ? each.remove() : ["class", "style"].forEach((name) => each.removeAttribute(name))));
    const place = at(node.getBoundingClientRect());
    for (const [name, value] of Object.entries({ ...place, opacity, overflow: "visible" })) copy.setAttribute(name, value);
    copy.removeAttribute("class");
    copy.removeAttribute("style");
    out.append(copy);
  }
}

/** Buttons that copy a table, {name, columns, rows} of `sortable`, in the order that is shown. */
function copying(find) {
  const button = (kind, write) => el("button", { type: "button", title: `Copy this table as ${kind}`, onclick: () => {
    const table = find();
    copied(write(table), `${plural(table.rows.length, "row")} as ${kind}`);
  } }, `Copy ${kind}`);
  return el("span", { class: "buttons" }, button("CSV", csv), button("LaTeX", latex));
}

/** With numbers in full, and a column of its own for standard errors. */
function csv({ columns, rows }) {
  const used = columns.map((column, i) => ({ ...column, i })).filter(({ node }) => !node);
  const errors = new Set(used.filter(({ i }) => rows.some((row) => row[i].stderr != null)).map(({ i }) => i));
  const quoted = (value) => (/[",\n\r]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
  const full = ({ text, sort, numeric }) => String(typeof sort === "number" && numeric !== false ? sort : sort == null ? "" : text ?? sort);
  const line = (values) => values.map((value) => quoted(String(value))).join(",");
  const heads = used.flatMap(({ name, i }) => (errors.has(i) ? [name, `${name}_stderr`] : [name]));
  const body = rows.map((row) => line(used.flatMap(({ i }) => (errors.has(i) ? [full(row[i]), row[i].stderr ?? ""] : [full(row[i])]))));
  return [line(heads), ...body].join("\n") + "\n";
}

/** With booktabs; numbers as they are shown. */
function latex({ columns, rows }) {
  const used = columns.map((column, i) => ({ ...column, i })).filter(({ node }) => !node);
  const typeset = (text) => Array.from(visible(text), (sign) => data.latex[sign] ?? sign).join("");
  const shown = ({ text, sort }, numeric) => {
    const said = text ?? String(sort ?? "");
    if (!numeric || !/^-?[\d.,]+(e[+-]\d+)?( ± [\d.,]+(e[+-]\d+)?)?$/.test(said)) return typeset(said);
    return `$${said.replace("±", "\\pm").replaceAll(",", "{,}").replace(/e([+-])(\d+)/g, (_, sign, power) => ` \\times 10^{${sign === "-" ? "-" : ""}${power}}`)}$`;
  };
  return [
    `\\begin{tabular}{@{}${used.map(({ numeric }) => (numeric ? "r" : "l")).join("")}@{}}`, "\\toprule",
    `${used.map(({ name }) => typeset(name)).join(" & ")} \\\\`, "\\midrule",
    ...rows.map((row) => `${used.map(({ i, numeric }) => shown(row[i], numeric)).join(" & ")} \\\\`),
    "\\bottomrule", "\\end{tabular}",
  ].join("\n") + "\n";
}

/** Put the text on the clipboard, and say so. */
async function copied(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // not allowed here: as one copied before there was a clipboard
    const area = el("textarea", { class: "unseen" });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`Copied ${what}.`);
}

function say(text) {
  const box = byId("said");
  box.textContent = text;
  clearTimeout(say.end);
  say.end = setTimeout(() => { box.textContent = ""; }, 4000);
}
