"use strict";
// What the other scripts share. Texts of the data reach the page as text nodes and attributes alone, never as HTML.

const data = JSON.parse(document.getElementById("data").textContent);
const sections = {}; // what draws each, by the element's id

/** An element with attributes (on… are listeners) and children; strings become text. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

function svg(tag, attributes) {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

const byId = (id) => document.getElementById(id);
const isolated = (text) => el("span", {}, visible(text));

/** The text with signs for what cannot be seen and could mislead (line breaks, controls, changes of direction). */
function visible(text) {
  return text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g, (sign) => {
    if (sign === "\n") return "⏎";
    if (sign === "\t") return "⇥";
    return `[U+${sign.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}

function shortened(text, longest = 60) {
  const signs = Array.from(visible(text));
  return signs.length > longest ? signs.slice(0, longest - 1).join("") + "…" : signs.join("");
}

function number(value) {
  if (value == null) return "–";
  const size = Math.abs(value);
  if (size >= 1000 || (size >= 10 && Number.isInteger(value))) return Math.round(value).toLocaleString("en");
  if (size >= 10) return value.toFixed(1);
  return size > 0 && size < 0.001 ? value.toExponential(1) : value.toFixed(3);
}

/** A number with its standard error in two digits, and as many decimals as that has. */
function measured(value, stderr) {
  if (value == null || stderr == null) return number(value);
  if (stderr <= 0) return `${number(value)} ± 0`;
  if (Math.max(Math.abs(value), stderr) < 0.001) return `${value.toExponential(1)} ± ${stderr.toExponential(1)}`;
  const digits = Math.max(0, 1 - Math.floor(Math.log10(+stderr.toExponential(1))));
  return [value, stderr].map((each) => each.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits })).join(" ± ");
}

/** A number of any size in three digits. */
const exact = (value) => (value && Math.abs(value) < 0.001 ? value.toExponential(2) : value.toPrecision(3));
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const plural = (n, one, several = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : several}`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** A labelled checkbox or radio button; `look` stands between box and text. */
function chip(type, text, checked, onchange, { name = null, look = null } = {}) {
  const input = el("input", { type, checked, name, onchange: (event) => onchange(event.target.checked) });
  return el("label", { class: "chip", title: visible(text) }, input, look, isolated(text));
}

function fieldset(legend, ...children) {
  return el("fieldset", {}, el("legend", {}, legend), ...children);
}

function select(label, options, chosen, onchange) {
  const list = el("select", { onchange: () => onchange(Number(list.value)) });
  options.forEach((text, i) => list.append(el("option", { value: i, selected: i === chosen }, shortened(text, 100))));
  return el("label", {}, label, list);
}

/** A table sorted by the column whose header is pressed, and what it shows: {columns, rows} in their order.
 *
 * A cell is {text or node, sort, stderr}; a column {name, numeric}, of which those with a node hold no data. `key` names the
 * table in the page's state.
 */
function sortable(key, columns, rows) {
  const body = el("tbody");
  const heads = columns.map(({ name, numeric, node }, i) =>
    el("th", { scope: "col", class: numeric ? "number" : null, title: visible(name) },
      node ?? el("button", { type: "button", onclick: () => sort(i) }, visible(name))));
  const made = rows.map((cells) => ({
    cells,
    row: el("tr", {}, ...cells.map(({ text, node }, i) =>
      el("td", { class: columns[i].numeric ? "number" : null, title: text == null ? null : visible(text) },
        node ?? visible(text)))),
  }));
  function sort(i, down = heads[i].getAttribute("aria-sort") === "ascending") {
    state.set(`sort.${key}`, `${down ? "-" : ""}${i}`);
    heads.forEach((head, j) => (j === i ? head.setAttribute("aria-sort", down ? "descending" : "ascending") : head.removeAttribute("aria-sort")));
    made.sort((a, b) => (down ? -1 : 1) * compare(a.cells[i].sort, b.cells[i].sort));
    body.append(...made.map(({ row }) => row));
  }
  body.append(...made.map(({ row }) => row));
  const [, down, chosen] = /^(-?)(\d+)$/.exec(state.get(`sort.${key}`) ?? "") ?? [];
  if (columns[chosen] && !columns[chosen].node) sort(Number(chosen), Boolean(down));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body);
  return { table, shown: () => ({ columns, rows: made.map(({ cells }) => cells) }) };
}

function compare(a, b) {
  if (a == null || b == null) return (a == null) - (b == null);
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

const tip = {
  show(text, event) {
    const box = byId("tip");
    box.textContent = text;
    box.hidden = false;
    const { width, height } = box.getBoundingClientRect();
    box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 4))}px`;
    box.style.top = `${event.clientY + 18 + height > innerHeight ? event.clientY - height - 12 : event.clientY + 18}px`;
  },
  hide() {
    byId("tip").hidden = true;
  },
};
