"use strict";
// A prompt token by token, and its flows as arrows: from the token that is read to the later one that reads it.

const LOWERED = "₀₁₂₃₄₅₆₇₈₉";

/** `now.pinned` is the token whose flows stay brought out, or NaN; `onpin` hears of another. */
function promptView(id, now, onpin) {
  let example = null, shown = [], said = { total: 0, formula: "I", pictured: false }, repeated = new Set();
  const node = el("div", { class: "prompt", id, role: "group", "aria-label": "prompt, token by token; arrow keys go from token to token, Enter keeps a token's flows in sight" });
  const note = el("p", { class: "note" });

  const bare = (text) => text.trim() || text;

  /** A row for each demonstration and the query: its text on the left, its label word in a column of its own. */
  function write(given, predicted) {
    example = given;
    const { tokens, demonstrations } = example, counts = new Map();
    tokens.forEach((text) => counts.set(bare(text), (counts.get(bare(text)) ?? 0) + 1));
    repeated = new Set([...counts].filter(([, n]) => n > 1).map(([text]) => text));
    const target = tokens.length - 1, anchors = new Map(demonstrations.map((d) => [d.anchor, d]));
    const spans = tokens.map((text, i) => {
      const piece = text === "" || tokens[i + 1] === "";
      const role = anchors.has(i) ? "label" : i === target ? "target" : text.trim() ? "" : "mark";
      const written = role === "label" || role === "target" ? visible(text).trim() : visible(text);
      return el("span", { class: `token ${role} ${piece ? "piece" : ""}`, role: "button", "aria-pressed": "false", "aria-label": spoken(i), tabindex: i ? -1 : 0, "data-token": i }, written || "·");
    });
    const last = demonstrations.at(-1), tail = demonstrations[0].anchor - demonstrations[0].tail; // formatting in front of a label word
    const rows = [...demonstrations.map((d, i) => [i ? d.start : 0, d.tail, d.stop]), [last.stop, Math.max(last.stop, tokens.length - tail), tokens.length]];
    node.replaceChildren(svg("svg", { "aria-hidden": "true" }), ...rows.flatMap(([start, middle, stop]) => [
      el("div", {}, ...spans.slice(start, middle)), el("div", { class: "answer" }, el("div", {}, ...spans.slice(middle, stop))),
    ]));
    node.lastChild.append(el("span", { class: "prediction" }, `${shortened(predicted, 20)}?`));
  }

  function draw(flows, how) {
    [shown, said] = [flows, how];
    const pieces = example.tokens.includes("");
    note.textContent = [
      "An arrow leads from the token that is read to the later token that reads it; its width grows with the flow.",
      how.pictured ? "Solid: more attention there lowers the loss, so it speaks for the true label (−). Dashed: it raises the loss (+)." : "",
      pieces ? "Underlined tokens are pieces of one character: the tokenizer splits it into bytes, and “·” is each piece after the first." : "",
    ].filter(Boolean).join(" ");
    drawArcs();
  }

  function drawArcs() {
    const picture = node.querySelector("svg"), place = places(), largest = shown[0]?.value || 1;
    const heads = Object.keys(KINDS).map((kind) => {
      const marker = svg("marker", { id: `${id}-${kind}`, viewBox: "0 0 8 8", refX: 6.5, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" });
      marker.append(svg("path", { d: "M0,0.5 L8,4 L0,7.5 L2,4 Z", fill: `var(--${kind})` }));
      return marker;
    });
    const defs = svg("defs", {});
    defs.append(...heads);
    const arcs = shown.map((flow) => {
      const strength = Math.sqrt(flow.value / largest);
      const d = path(place(flow.from), place(flow.to));
      const arc = svg("path", { class: "arc", d, fill: "none", stroke: `var(--${flow.kind})`, "stroke-width": 0.6 + 4.4 * strength, opacity: 0.2 + 0.7 * strength,
        "stroke-dasharray": flow.sign === "+" ? "6,5" : "none", "marker-end": `url(#${id}-${flow.kind})`, "data-from": flow.from, "data-to": flow.to });
      const hit = svg("path", { class: "hit", d });
      hit.addEventListener("pointermove", (event) => { look((other) => other === flow); tip.show(described(flow), event); });
      hit.addEventListener("pointerleave", () => { rest(); tip.hide(); });
      flow.arc = arc;
      return [arc, hit];
    }).reverse(); // the strongest lies on top
    picture.replaceChildren(defs, ...arcs.map(([arc]) => arc), ...arcs.map(([, hit]) => hit));
  }

  /** A function from a token's number to its box within the prompt. */
  function places() {
    const frame = node.getBoundingClientRect();
    const spans = [...node.querySelectorAll(".token")].sort((a, b) => a.dataset.token - b.dataset.token);
    return (i) => {
      const box = spans[i].getBoundingClientRect();
      const [left, right, top, bottom] = [box.left - frame.left - 1, box.right - frame.left - 1, box.top - frame.top - 1, box.bottom - frame.top - 1];
      return { left, right, top, bottom, x: (left + right) / 2, y: (top + bottom) / 2, inColumn: spans[i].matches(".label, .target"), width: frame.width };
    };
  }

  /** From box to box: around the right side between label words and target, above a line within it, down across lines. */
  function path(a, b) {
    const drop = b.y - a.y;
    if (a.inColumn && b.inColumn) {
      const edge = Math.max(a.right, b.right);
      const out = Math.min(edge + 16 + 0.22 * Math.abs(drop), a.width - 6);
      const reach = edge + (out - edge) * 1.33; // a cubic reaches three quarters of the way to its control points
      return `M${a.right},${a.y} C${reach},${a.y} ${reach},${b.y} ${b.right},${b.y}`;
    }
    if (Math.abs(drop) < 8) {
      const up = Math.min(10 + 0.12 * Math.abs(b.x - a.x), 34);
      return `M${a.x},${a.top} C${a.x + (b.x - a.x) * 0.2},${a.top - up} ${b.x - (b.x - a.x) * 0.2},${b.top - up} ${b.x},${b.top}`;
    }
    const bend = Math.max(14, 0.45 * drop);
    return `M${a.x},${a.bottom} C${a.x},${a.bottom + bend} ${b.x},${b.top - bend} ${b.x},${b.top}`;
  }

  /** The piece of a character that a token is: [its number from 1, of how many, the character]; null for whole tokens. */
  function piece(i) {
    const { tokens } = example;
    let first = i;
    while (first > 0 && tokens[first] === "") first--;
    let last = i;
    while (tokens[last + 1] === "") last++;
    return first === last ? null : [i - first + 1, last - first + 1, Array.from(tokens[first]).at(-1) ?? ""];
  }

  /** The token, with its position where the same text occurs elsewhere, too. */
  function word(i) {
    const text = example.tokens[i], lowered = Array.from(String(i + 1), (digit) => LOWERED[digit]).join("");
    const seen = text === "" ? `…${visible(piece(i)[2])}` : text.trim() ? shortened(text.trim(), 24) : visible(text).replaceAll(" ", "␣");
    return repeated.has(bare(text)) || text === "" ? seen + lowered : seen;
  }

  function spoken(i) {
    const part = piece(i);
    return `${example.tokens[i].trim() ? visible(example.tokens[i].trim()) : word(i)}, position ${i + 1}${part ? `, piece ${part[0]} of ${part[1]} of ${visible(part[2])}` : ""}`;
  }

  function described({ from, to, value, kind, sign }) {
    const { total, formula } = said, share = total ? `, ${percent(value / total)} of the layer` : "";
    const meaning = { "-": "\nlowers the loss: for the true label", "+": "\nraises the loss: against the true label" }[sign] ?? "";
    return `${word(from)} → ${word(to)}\n${KINDS[kind].text}\n${formula} = ${exact(value)}${share}${meaning}\npositions ${from + 1} → ${to + 1}`;
  }

  /** Bring out the flows that `which` picks, and their tokens; null brings out none. */
  function look(which) {
    const tokens = new Set();
    node.classList.toggle("looking", which !== null);
    for (const flow of shown) {
      const on = which !== null && which(flow);
      flow.arc.classList.toggle("looked", on);
      flow.row?.classList.toggle("looked", on);
      if (on) tokens.add(flow.from).add(flow.to);
    }
    for (const span of node.querySelectorAll(".token")) {
      const i = Number(span.dataset.token);
      span.classList.toggle("looked", tokens.has(i) || (which !== null && i === now.pinned));
      span.setAttribute("aria-pressed", String(i === now.pinned));
    }
  }

  /** What is brought out while nothing is pointed at. */
  function rest() {
    look(now.pinned >= 0 ? (flow) => flow.from === now.pinned || flow.to === now.pinned : null);
  }

  function lookAt(span, event) {
    const i = Number(span.dataset.token), { total } = said, part = piece(i);
    const share = (key) => percent(shown.filter((flow) => flow[key] === i).reduce((sum, flow) => sum + flow.value, 0) / total);
    look((flow) => flow.from === i || flow.to === i);
    span.classList.add("looked");
    const first = shown.filter((flow) => flow.from === i || flow.to === i).slice(0, 4);
    const lines = first.map((flow) => `${flow.from === i ? `→ ${word(flow.to)}` : `← ${word(flow.from)}`}  ${exact(flow.value)}`);
    tip.show([`${word(i)}, position ${i + 1}`, part ? `piece ${part[0]} of ${part[1]} of “${visible(part[2])}”, which the tokenizer splits into bytes` : "",
      total ? `of the layer's flow, among those drawn: sends ${share("from")}, receives ${share("to")}` : "", ...lines].filter(Boolean).join("\n"), event);
  }

  function pin(span) {
    const i = Number(span.dataset.token);
    now.pinned = now.pinned === i ? NaN : i;
    rest();
    onpin();
  }

  node.addEventListener("pointerover", (event) => event.target.matches(".token") && lookAt(event.target, event));
  node.addEventListener("pointerout", (event) => { if (event.target.matches(".token")) { rest(); tip.hide(); } });
  node.addEventListener("click", (event) => event.target.matches(".token") && pin(event.target));
  node.addEventListener("focusin", (event) => {
    const box = event.target.getBoundingClientRect();
    if (event.target.matches(":focus-visible")) lookAt(event.target, { clientX: box.right, clientY: box.bottom });
  });
  node.addEventListener("focusout", () => { rest(); tip.hide(); });
  node.addEventListener("keydown", (event) => {
    if (!event.target.matches(".token")) return;
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pin(event.target); return; }
    if (event.key === "Escape") { tip.hide(); return; }
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8 }[event.key];
    if (!step) return;
    event.preventDefault();
    const i = Math.max(0, Math.min(example.tokens.length - 1, Number(event.target.dataset.token) + step));
    event.target.tabIndex = -1;
    const next = node.querySelector(`[data-token="${i}"]`);
    next.tabIndex = 0;
    next.focus();
  });
  return { node, note, write, draw, word, described, look, rest };
}
