// Codes as bits: unpacking them, drawing them, and which labels they lean to.

import { el, name, percent } from "./dom.js";

/** The bits of a code in hexadecimal, most significant first, as numbers 0 and 1. */
export function bitsOf(hex, bits) {
  return Array.from({ length: bits }, (_, i) => (parseInt(hex.slice(2 * (i >> 3), 2 * (i >> 3) + 2), 16) >> (7 - (i & 7))) & 1);
}

/** A code as a small pattern, to be known again by. */
export function pattern(hex, bits) {
  const own = bitsOf(hex, bits);
  const columns = String(bits % 32 && bits % 24 === 0 ? 24 : Math.min(bits, 32));
  return el("span", { class: "pattern", "--columns": columns, role: "img", "aria-label": `Code of ${bits} bits, ${own.filter(Boolean).length} of them 1` },
    ...own.map((bit) => el("i", { class: bit ? "one" : null })));
}

/**
 * How well some bits fit each label: the share of the label's images that have the same bit, averaged over the bits.
 * @param {number[]} code @param {number[]} which the places of the bits @param {{labels: string[], lean: number[][]}} lean
 * @returns {{label: string, share: number}[]} the best first
 */
export function leanings(code, which, lean) {
  if (!which.length) return [];
  const fit = (row) => which.reduce((sum, i) => sum + (code[i] ? row[i] : 1 - row[i]), 0) / which.length;
  const all = lean.labels.map((label, n) => ({ label, share: fit(lean.lean[n]) }));
  return all.sort((a, b) => b.share - a.share);
}

/**
 * A code drawn as a grid, against the query's where there is one. Each cell shows the query's bit in its upper
 * left half and the item's in its lower right. The arrow keys go from bit to bit.
 * @param {number[]} own the item's bits @param {?number[]} query the query's
 * @param {?object} lean what /v1/gallery/bits says
 */
export function bitGrid(own, query, lean) {
  const cells = own.map((bit, i) => el("i", { class: query ? `q${query[i]} o${bit}` : `q${bit} o${bit}` }));
  const readout = el("p", { class: "readout", "aria-hidden": "true" });
  const label = query ? "Bits of this image against the query's" : "Bits of this image";
  const root = el("div", { class: "bit-grid", tabindex: "0", role: "slider", "aria-label": label, "aria-valuemin": "1",
    "aria-valuemax": String(own.length), "--columns": String(own.length > 128 ? 32 : 16) }, ...cells);
  let at = Math.max(0, query ? own.findIndex((bit, i) => bit !== query[i]) : 0);

  function show(i, chosen = true) {
    cells[at].classList.remove("at");
    at = Math.max(0, Math.min(i, own.length - 1));
    if (chosen) cells[at].classList.add("at");
    const [head, tail] = said(at, own, query, lean);
    readout.replaceChildren(el("strong", {}, head), ` ${tail}`);
    root.setAttribute("aria-valuenow", String(at + 1));
    root.setAttribute("aria-valuetext", `${head} ${tail}`);
  }

  root.addEventListener("pointermove", (event) => {
    const i = cells.indexOf(event.target);
    if (i >= 0 && i !== at) show(i);
  });
  root.addEventListener("click", (event) => cells.includes(event.target) && show(cells.indexOf(event.target)));
  root.addEventListener("focus", () => show(at));
  root.addEventListener("keydown", (event) => {
    const columns = getComputedStyle(root).gridTemplateColumns.split(" ").length;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: own.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    if (to >= 0 && to < own.length) show(to);
  });
  show(at, false);
  return el("div", { class: "bits" }, root, readout);
}

// "Bit 7: 1 in the query, 0 here." "Most often 1 with giraffe (97 %), zebra (95 %); least with pizza (2 %)."
function said(i, own, query, lean) {
  const head = !query ? `Bit ${i + 1} is ${own[i]}.`
    : query[i] === own[i] ? `Bit ${i + 1} is ${own[i]} in both.` : `Bit ${i + 1} is ${query[i]} in the query, ${own[i]} here.`;
  if (!lean?.labels.length) return [head, ""];
  const shares = lean.labels.map((label, n) => ({ label, share: lean.lean[n][i] })).sort((a, b) => b.share - a.share);
  const [first, second] = shares;
  const last = shares.at(-1);
  const most = [first, ...(shares.length > 2 ? [second] : [])].map((s) => `${s.label} (${percent(s.share)})`).join(", ");
  return [head, `Most often 1 with ${most}${shares.length > 1 ? `, least with ${last.label} (${percent(last.share)})` : ""}.`];
}

/** Labels with a bar each. */
export function leanList(title, found, most = 4) {
  return el("section", { class: "lean" }, el("h4", {}, title),
    el("ol", {}, ...found.slice(0, most).map(({ label, share }) => el("li", {}, name(label, { class: "name" }),
      el("span", { class: "bar", "--share": String(share), "aria-hidden": "true" }), el("span", { class: "figure" }, percent(share))))));
}
