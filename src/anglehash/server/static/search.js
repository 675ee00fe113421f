// Requests for images: by an item, a code, an image, or none at all, which lists the gallery. Recent answers are kept,
// so that going back shows at once what was there.

import { getJson, postForm, postJson } from "./api.js";
import { fileOf } from "./query.js";
import { filterOf, searchOf } from "./state.js";

const PAGE = 36;
const KEPT = 16;

/**
 * @typedef {object} Answer
 * @property {object[]} results all that have come so far
 * @property {?string} cursor where the next ones begin
 * @property {?number} tied how many images are as far away as the last result
 * @property {boolean} unknown whether nothing in the gallery looks like what is searched by
 * @property {?{code: string, bits: number, labels?: string[]}} query
 * @property {?object} item what is searched by, where it is an item
 * @property {number} scroll how far the page was scrolled when it was left
 */

const kept = new Map();

/** The answer to a state. @returns {Promise<Answer>} */
export async function find(state, signal) {
  const known = kept.get(searchOf(state));
  if (known) {
    keep(state, known);
    return known;
  }
  const file = state.like ? null : fileOf(state.code); // with its image more is known than with its code
  if (file) return keep(state, await findByImage(file, state, signal));
  const item = state.like ? await getJson(`v1/items/${encodeURIComponent(state.like)}`, signal) : null;
  const { results, next_cursor: cursor, tied_at_last: tied = null, unknown, query = null } = await ask(state, item, null, signal);
  return keep(state, { results, cursor, tied, unknown: unknown === true, query, item, scroll: 0 });
}

/** More of an answer. @returns {Promise<object[]>} the further results, which are in the answer too */
export async function findMore(state, answer, signal) {
  const { results, next_cursor: cursor, tied_at_last: tied = null } = await ask(state, answer.item, answer.cursor, signal);
  Object.assign(answer, { cursor, tied });
  answer.results.push(...results);
  return results;
}

/** The answer to an image. @param {File} file @param {object} state whose filters count */
export async function findByImage(file, state, signal) {
  const form = new FormData();
  form.set("k", String(PAGE));
  if (state.within !== null) form.set("max_distance", String(state.within));
  if (filterOf(state)) form.set("filter", JSON.stringify(filterOf(state)));
  form.set("image", file);
  const { results, next_cursor: cursor, tied_at_last: tied, unknown, query } = await postForm("v1/search", form, signal);
  return { results, cursor, tied, unknown: unknown === true, query, item: null, scroll: 0 };
}

/** Keep an answer for when its state comes again. */
export function keep(state, answer) {
  kept.delete(searchOf(state));
  kept.set(searchOf(state), answer);
  if (kept.size > KEPT) kept.delete(kept.keys().next().value);
  return answer;
}

/** Forget what was answered: it is to be asked again. */
export const forget = (state) => kept.delete(searchOf(state));

/** Forget all that was answered: the gallery has changed. */
export const forgetAll = () => kept.clear();

function ask(state, item, cursor, signal) {
  const filter = filterOf(state);
  if (!state.like && !state.code) {
    const terms = new URLSearchParams({ k: String(PAGE) });
    if (cursor) terms.set("cursor", cursor);
    if (Object.keys(filter ?? {}).join() === "labels") state.labels.forEach((label) => terms.append("label", label));
    else if (filter) terms.set("filter", JSON.stringify(filter));
    return getJson(`v1/items?${terms}`, signal);
  }
  const request = { k: PAGE, ...(item ? { id: item.id } : { code: state.code }) };
  if (state.within !== null) request.max_distance = state.within;
  if (filter) request.filter = filter;
  if (cursor) request.cursor = cursor;
  return postJson("v1/search", request, signal);
}
