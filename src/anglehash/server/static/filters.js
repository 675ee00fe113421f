// The panel of filters, and the slider of the distance.

import { byId, el, name } from "./dom.js";
import { filters } from "./state.js";

const OFTEN = 10;
const SLIDE_MS = 180;

/**
 * @param {object} first what /v1/gallery says
 * @param {function} change called with what is to change of the state, and whether it replaces the last change
 * @param {function} now gives the state
 */
export function createFilters(first, change, now) {
  let gallery = null;

  function learn(next) {
    gallery = next;
    byId("field-label").hidden = !gallery.labels.length;
    byId("label-list").replaceChildren(...gallery.labels.map((label) => el("option", { value: label.name })));
    byId("field-column").hidden = !gallery.columns.length;
    byId("column").replaceChildren(...gallery.columns.map((column) => el("option", { value: column }, column)));
    byId("within").max = String(gallery.bits);
  }
  learn(first);

  const addLabel = () => {
    const label = byId("label").value.trim();
    if (!label) return;
    byId("label").value = "";
    if (!now().labels.includes(label)) change({ labels: [...now().labels, label] });
  };
  const addCondition = () => {
    const value = byId("value").value.trim();
    if (!value) return;
    byId("value").value = "";
    const column = byId("column").value;
    change({ where: [...now().where.filter((pair) => pair[0] !== column || pair[1] !== value), [column, value]] });
  };
  byId("filter-form").addEventListener("submit", (event) => {
    event.preventDefault(); // Enter in a field
    addLabel();
    addCondition();
  });
  byId("label").addEventListener("change", addLabel);
  byId("label").addEventListener("input", (event) => {
    if (event.inputType === "insertReplacementText" || !event.inputType) addLabel(); // one out of the list was chosen
  });
  byId("value").addEventListener("change", addCondition);
  for (const id of ["path", "after", "before"]) byId(id).addEventListener("change", () => change({ [id]: byId(id).value.trim() }));

  let timer = 0;
  const reach = () => (Number(byId("within").value) >= gallery.bits ? null : Number(byId("within").value));
  byId("reach").addEventListener("submit", (event) => event.preventDefault());
  byId("within").addEventListener("input", () => {
    sayReach(reach());
    clearTimeout(timer);
    timer = setTimeout(() => change({ within: reach() }, true), SLIDE_MS);
  });

  function sayReach(within) {
    const text = within === null ? "any" : within === 1 ? "1 bit" : `${within} bits`;
    byId("within-text").textContent = text;
    byId("within").setAttribute("aria-valuetext", text);
    byId("within").style.setProperty("--share", String((within ?? gallery.bits) / gallery.bits));
  }

  function chip(text, remove) {
    return el("li", {}, el("button", { type: "button", class: "chip on", onclick: remove, "aria-label": `Remove the filter ${text}` }, name(text), " ×"));
  }

  /** Show a state. @param {object} latest what /v1/gallery says now */
  return function show(state, latest) {
    if (latest !== gallery) learn(latest);
    for (const id of ["path", "after", "before"]) if (document.activeElement !== byId(id)) byId(id).value = state[id];
    byId("reach").hidden = !state.like && !state.code;
    if (document.activeElement !== byId("within") || state.within === null) byId("within").value = String(state.within ?? gallery.bits);
    sayReach(state.within);
    const n = filters(state);
    byId("filter-count").textContent = n ? String(n) : "";
    byId("chosen").replaceChildren(
      ...state.labels.map((label) => chip(label, () => change({ labels: state.labels.filter((other) => other !== label) }))),
      ...state.where.map((pair) => chip(condition(pair), () => change({ where: state.where.filter((other) => other !== pair) }))),
      ...["path", "after", "before"].filter((id) => state[id]).map((id) => chip(`${id} ${state[id]}`, () => {
        byId(id).value = "";
        change({ [id]: "" });
      })),
      ...(n > 1 ? [el("li", {}, el("button", { type: "button", class: "chip", onclick: () => change({ labels: [], path: "", after: "", before: "", where: [] }) }, "Clear all"))] : []));
    byId("chosen").hidden = !n;
    const often = gallery.labels.filter((label) => !state.labels.includes(label.name)).slice(0, OFTEN);
    byId("often").replaceChildren(...often.map((label) => el("li", {}, el("button", { type: "button", class: "chip",
      onclick: () => change({ labels: [...state.labels, label.name] }) }, name(label.name), el("small", {}, ` ${label.count.toLocaleString("en")}`)))));
  };
}

const condition = ([column, value]) => (/^\s*[!<>=]/.test(value) ? `${column} ${value}` : `${column} = ${value}`);
