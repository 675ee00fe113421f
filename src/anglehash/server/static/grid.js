// The grid of images: its tiles, and moving in it by keyboard. One tile at a time is a stop of the Tab key.

import { count, el, fileName, name } from "./dom.js";
import { picture } from "./pictures.js";

/** The key of an item: the last part of its address. */
export const keyOf = (item) => item.item.split("/").pop();

/** What an item is called where there is little room: its labels, or else its file. */
export const titleOf = (item) => (item.labels.length ? item.labels.join(", ") : fileName(item.id));

/**
 * @param {HTMLElement} root the list
 * @param {object} hear what is called: `open(item)` and `similar(item)`, and `more()`, which loads the next page
 */
export function createGrid(root, hear) {
  let items = [];
  let current = 0;

  const faces = () => [...root.querySelectorAll(".face")];

  function clear() {
    items = [];
    current = 0;
    root.replaceChildren();
    root.classList.remove("waiting");
  }

  /** Empty tiles, for as long as the answer is awaited. */
  function wait(n) {
    clear();
    root.classList.add("waiting");
    root.append(...Array.from({ length: n }, () => el("li", { class: "tile", "aria-hidden": "true" },
      el("span", { class: "frame" }), el("span", { class: "line" }))));
  }

  /** Add items. @param {function} hrefOf the address of an item's details */
  function add(more, bits, hrefOf) {
    if (root.classList.contains("waiting")) clear();
    const first = items.length;
    items.push(...more);
    root.append(...more.map((item, i) => tile(item, bits, hrefOf(item), first + i)));
  }

  function tile(item, bits, href, place) {
    const face = el("a", { class: "face", href, tabindex: place === current ? "0" : "-1" },
      el("span", { class: "frame" }, picture(item.thumbnail, fileName(item.id))),
      el("span", { class: "line" }, name(titleOf(item), { class: "name" }), distance(item, bits)),
      item.distance === undefined ? null
        : el("span", { class: "bar", "--share": String(1 - item.distance / bits), "aria-hidden": "true" }),
      item.same_picture ? el("span", { class: "same" }, "the same picture") : null);
    face.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return; // a new tab, as with any link
      event.preventDefault();
      choose(place);
      hear.open(item);
    });
    face.addEventListener("focus", () => choose(place));
    const label = `Similar to ${titleOf(item)}`;
    return el("li", { class: "tile" }, face,
      el("button", { type: "button", class: "similar", tabindex: "-1", "aria-label": label, title: "Similar to this (s)",
        onclick: () => hear.similar(item) }, "Similar"));
  }

  function distance(item, bits) {
    if (item.distance === undefined) return null;
    const title = `${item.distance} of ${bits} bits differ`;
    return el("span", { class: "far", title }, count(item.distance, "bit"), el("span", { class: "unseen" }, " away"));
  }

  function choose(place) {
    const all = faces();
    all[current]?.setAttribute("tabindex", "-1");
    current = Math.max(0, Math.min(place, all.length - 1));
    all[current]?.setAttribute("tabindex", "0");
    return all[current];
  }

  const focus = (place = current) => choose(place)?.focus();

  function columns() {
    const all = faces();
    const row = all.findIndex((face) => face.offsetTop + face.parentElement.offsetTop > all[0].offsetTop + all[0].parentElement.offsetTop);
    return row < 0 ? all.length : row;
  }

  async function step(by) {
    const target = current + by;
    if (target >= items.length) await hear.more();
    if (target >= 0 && (target < items.length || by === 1)) focus(target);
    else if (target >= items.length && Math.floor(current / columns()) < Math.floor((items.length - 1) / columns())) focus(items.length - 1);
  }

  root.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !event.target.classList.contains("face")) return;
    const moves = { ArrowRight: () => step(1), ArrowLeft: () => step(-1), ArrowDown: () => step(columns()),
      ArrowUp: () => step(-columns()), Home: () => focus(0), End: () => focus(items.length - 1) };
    if (event.key in moves) {
      event.preventDefault();
      moves[event.key]();
    }
  });

  return {
    clear, wait, add, focus,
    /** The item that the keyboard is at. */
    at: () => (root.contains(document.activeElement) ? items[current] : undefined),
    /** The item after or before another, and its place in the grid. */
    beside: (key, by) => items[items.findIndex((item) => keyOf(item) === key) + by],
    item: (key) => items.find((item) => keyOf(item) === key),
    focusKey: (key) => focus(items.findIndex((item) => keyOf(item) === key)),
    get length() { return items.length; },
  };
}
