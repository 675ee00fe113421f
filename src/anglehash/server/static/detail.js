// The details of one image: what is known of it, and its code against the query's.

import { getJson } from "./api.js";
import { bitGrid, bitsOf, leanings, leanList } from "./bits.js";
import { byId, bytes, count, el, fileName, name } from "./dom.js";
import { picture } from "./pictures.js";
import { removal } from "./writing.js";

const FEW = 10;
let leaning = null;

/**
 * @param {object} hear what is called: `close()`, `similar(key)`, `step(by)`, `label(text)`, `removed(item)`
 */
export function createDetail(hear) {
  const dialog = byId("detail");
  let shown = "";

  dialog.addEventListener("cancel", (event) => {
    event.preventDefault(); // Escape goes through the address too
    hear.close();
  });
  dialog.addEventListener("click", (event) => event.target === dialog && hear.close());
  dialog.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      event.preventDefault();
      hear.step(event.key === "ArrowRight" ? 1 : -1);
    }
  });

  /**
   * Show an item. @param {?object} hit what the search said of it @param {?object} query what was searched by
   * @param {object} gallery what /v1/gallery says */
  async function show(key, hit, query, gallery) {
    shown = key;
    if (!dialog.open) dialog.showModal();
    dialog.setAttribute("aria-busy", "true");
    if (!dialog.firstChild) dialog.replaceChildren(top("…"));
    try {
      const [item, lean] = await Promise.all([getJson(`v1/items/${encodeURIComponent(key)}`), leaningOf(gallery)]);
      if (shown === key) fill(item, hit, query, lean, gallery.can_write);
    } catch (error) {
      if (shown === key) dialog.replaceChildren(top("This image cannot be shown"), el("p", { class: "wide" }, error.message));
    }
    if (shown !== key) return;
    dialog.removeAttribute("aria-busy");
    dialog.scrollTop = 0;
    byId("detail-title").focus();
  }

  function top(title) {
    return el("header", {},
      el("h2", { id: "detail-title", tabindex: "-1" }, typeof title === "string" ? title : null, title instanceof Node ? title : null),
      el("button", { type: "button", class: "quiet round", "aria-label": "Previous image", title: "Previous (←)", onclick: () => hear.step(-1) }, "‹"),
      el("button", { type: "button", class: "quiet round", "aria-label": "Next image", title: "Next (→)", onclick: () => hear.step(1) }, "›"),
      el("button", { type: "button", class: "quiet round", "aria-label": "Close", title: "Close (Esc)", onclick: hear.close }, "×"));
  }

  function fill(item, hit, query, lean, removable) {
    const own = bitsOf(item.code, item.bits);
    const other = query && query.bits === item.bits ? bitsOf(query.code, item.bits) : null;
    dialog.replaceChildren(
      top(name(fileName(item.id))),
      el("div", { class: "sides" },
        el("div", { class: "left" },
          el("span", { class: "frame" }, picture(item.thumbnail, fileName(item.id))),
          el("p", { class: "buttons" },
            el("button", { type: "button", class: "main", onclick: () => hear.similar(shown) }, "Similar to this")),
          removable ? removal(item, hear.removed) : null),
        el("div", { class: "right" },
          labels(item.labels), facts(item, hit), codes(own, other, lean))));
  }

  const labels = (texts) => texts.length === 0 ? null : el("ul", { class: "chips", "aria-label": "Labels" },
    ...texts.map((text) => el("li", {}, el("button", { type: "button", class: "chip", title: "Show only these", onclick: () => hear.label(text) }, name(text)))));

  return {
    show,
    close() {
      shown = "";
      if (dialog.open) dialog.close();
      dialog.replaceChildren();
    },
    get open() { return dialog.open; },
    get key() { return shown; },
  };
}

function facts(item, hit) {
  const date = item.date ? new Date(item.date).toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" }) : "";
  const rows = [
    ["Path", name(item.id)],
    hit?.distance === undefined ? null : ["Distance", `${count(hit.distance, "bit")} of ${item.bits}`],
    hit?.same_picture ? ["Match", "the same picture: equal bytes or pixels"] : null,
    date && ["Changed", date],
    item.size ? ["Size", bytes(item.size)] : null,
    item.status === "ok" ? null : ["File", "it is not there any more"],
    ...Object.entries(item.metadata).map(([column, value]) => [name(column), name(text(value))]),
  ];
  return el("dl", { class: "known" }, ...rows.filter(Boolean).map(([what, value]) => el("div", {}, el("dt", {}, what), el("dd", {}, value))));
}

const text = (value) => (value === null ? "–" : Array.isArray(value) ? value.join(", ") : String(value));

function codes(own, query, lean) {
  const all = own.map((_, i) => i);
  const differ = query ? all.filter((i) => own[i] !== query[i]) : [];
  const agree = all.filter((i) => !differ.includes(i));
  const title = query ? `${agree.length} of ${count(own.length, "bit")} agree` : `The code, ${count(own.length, "bit")}`;
  return el("section", { class: "code" }, el("h3", {}, title), bitGrid(own, query, lean), query ? legend() : null,
    lean?.labels.length ? leans(own, query, agree, differ, lean) : null);
}

function leans(own, query, agree, differ, lean) {
  const lists = !query ? [leanList("All bits", leanings(own, agree, lean))]
    : [agree.length ? leanList(`${count(agree.length, "bit")} that agree`, leanings(own, agree, lean)) : null,
      differ.length ? leanList(`${count(differ.length, "bit")} as in the query`, leanings(query, differ, lean)) : null,
      differ.length ? leanList(`${count(differ.length, "bit")} as in this image`, leanings(own, differ, lean)) : null];
  return el("section", { class: "code" }, el("h3", {}, "Which labels the bits lean to"),
    el("div", { class: "leans" }, ...lists.filter(Boolean)),
    el("small", {}, "The share of a label's images that have the same bits, averaged over these bits."));
}

function legend() {
  const rows = [["q1 o1", "1 in both"], ["q0 o0", "0 in both"], ["q1 o0", "only in the query"], ["q0 o1", "only here"]];
  return el("ul", { class: "legend" }, ...rows.map(([kind, said]) => el("li", {}, el("i", { class: kind }), said)));
}

// Which labels bits lean to: asked once; details are shown without where it cannot be had. Of labels with few images
// nearly every share is 0 or 1, so they would always come first: they are left out where there are others.
async function leaningOf(gallery) {
  leaning ??= getJson("v1/gallery/bits").catch(() => {
    leaning = null;
    return null;
  });
  const all = await leaning;
  const many = new Set(gallery.labels.filter(({ count: n }) => n >= FEW).map((label) => label.name));
  const rows = all?.labels.map((_, row) => row).filter((row) => many.has(all.labels[row]));
  return !rows || rows.length < 5 ? all : { labels: rows.map((row) => all.labels[row]), lean: rows.map((row) => all.lean[row]) };
}
