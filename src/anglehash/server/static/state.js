// What is on show, and the part of the address after # that stands for it: so back, forward and links work.

/**
 * @typedef {object} State
 * @property {"images"|"health"} view
 * @property {string} like the key of the item that is searched by
 * @property {string} code the code, in hex, that is searched by
 * @property {?number} within the maximum distance in bits
 * @property {string[]} labels @property {string} path @property {string} after @property {string} before
 * @property {[string, string][]} where columns and what they are to be
 * @property {string} open the key of the item whose details are open
 */

/** @type {State} */
export const START = Object.freeze({
  view: "images", like: "", code: "", within: null, labels: [], path: "", after: "", before: "", where: [], open: "",
});

const TEXTS = ["like", "code", "path", "after", "before", "open"];

/** The address of a state: `#images?label=cat&within=9`. */
export function address(state) {
  if (state.view === "health") return "#health";
  const terms = new URLSearchParams();
  for (const name of TEXTS.slice(0, 2)) if (state[name]) terms.set(name, state[name]);
  if (state.within !== null) terms.set("within", String(state.within));
  for (const label of state.labels) terms.append("label", label);
  for (const name of TEXTS.slice(2, 5)) if (state[name]) terms.set(name, state[name]);
  for (const [column, value] of state.where) terms.append("where", JSON.stringify([column, value]));
  if (state.open) terms.set("open", state.open);
  return terms.size ? `#images?${terms}` : "#images";
}

/** The state of an address. What cannot be understood is left out: anybody can write an address. */
export function parse(hash) {
  const [view, query = ""] = hash.replace(/^#/, "").split("?");
  if (view === "health") return { ...START, view: "health" };
  const terms = new URLSearchParams(query);
  const state = { ...START, labels: [...new Set(terms.getAll("label"))] };
  for (const name of TEXTS) state[name] = terms.get(name) ?? "";
  if (/^\d{1,4}$/.test(terms.get("within") ?? "")) state.within = Number(terms.get("within"));
  state.where = terms.getAll("where").map(condition).filter(Boolean);
  return state;
}

function condition(text) {
  try {
    const pair = JSON.parse(text);
    return Array.isArray(pair) && pair.length === 2 && pair.every((part) => typeof part === "string") ? pair : null;
  } catch {
    return null;
  }
}

/** The part of a state that decides which images are on show, as text. */
export const searchOf = (state) => address({ ...state, open: "" });

/** How many filters are set. */
export const filters = (state) =>
  state.labels.length + state.where.length + [state.path, state.after, state.before].filter(Boolean).length;

/** The filters as the service takes them; undefined where there is none. */
export function filterOf(state) {
  if (!filters(state)) return undefined;
  const filter = {};
  if (state.labels.length) filter.labels = state.labels;
  for (const name of ["path", "after", "before"]) if (state[name]) filter[name] = state[name];
  if (state.where.length) filter.where = conditions(state.where);
  return filter;
}

// [["year", ">=2019"], ["year", "<2022"], ["shape", "square"]] -> {year: {">=": "2019", "<": "2022"}, shape: {"=": "square"}}
function conditions(where) {
  const found = Object.create(null); // a column may be named like anything
  for (const [column, text] of where) {
    const [, compare = "=", value] = /^\s*(!=|<=|>=|=|<|>)?\s*(.*)$/s.exec(text);
    found[column] = { ...found[column], [compare]: value };
  }
  return found;
}
