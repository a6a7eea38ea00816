"use strict";
// What is chosen lies in the address's fragment: whoever opens the link sees the same picture.

const state = (() => {
  const WAIT = 200; // milliseconds: browsers refuse an address that changes too often
  const known = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
  let waiting = 0;

  function write() {
    clearTimeout(waiting);
    waiting = 0;
    known.sort(); // one view has one link
    const [page] = location.href.split("#"), text = known.toString();
    if (location.hash.slice(1) === text) return;
    try {
      history.replaceState(null, "", text ? `#${text}` : page);
    } catch {} // a frame without an address of its own
  }

  addEventListener("hashchange", () => location.hash.includes("=") && location.reload()); // a link pasted into the same window
  addEventListener("pagehide", write);
  return {
    /** The value of this name, or undefined. */
    get: (name) => known.get(name) ?? undefined,
    all: (name) => known.getAll(name),
    number: (name) => (known.has(name) && Number.isFinite(Number(known.get(name))) ? Number(known.get(name)) : undefined),
    /** Keep the values under this name; none for what a reader sees without a choice. */
    set(name, ...values) {
      known.delete(name);
      for (const value of values) if (value != null) known.append(name, value);
      waiting ||= setTimeout(write, WAIT);
    },
    write,
  };
})();

/** The links above go to a section and keep the state. */
function navigation() {
  for (const link of document.querySelectorAll("nav a")) {
    link.addEventListener("click", (event) => {
      event.preventDefault();
      go(link.hash.slice(1));
      state.set("at", link.hash.slice(1));
    });
  }
  byId("copy-link")?.addEventListener("click", () => {
    state.write();
    copied(location.href, "the link to this view");
  });
  const at = state.get("at");
  if (at && byId(at)) go(at);

  function go(id) {
    const title = byId(id).querySelector("h2");
    title.tabIndex = -1;
    title.focus({ preventScroll: true });
    byId(id).scrollIntoView();
  }
}
