// What is said of an answer: its title, how much it is, and what to do where it is nothing.

import { count, el } from "./dom.js";
import { titleOf } from "./grid.js";
import { filters } from "./state.js";

export const NO_FILTERS = { labels: [], path: "", after: "", before: "", where: [] };

/** The title of an answer, as texts and elements. */
export function titleOfAnswer(state, found) {
  if (found.item) return ["Similar to ", el("bdi", {}, titleOf(found.item))];
  if (state.code) return ["Nearest to your image"];
  return [filters(state) ? "Filtered images" : "All images"];
}

/** How many images an answer is, and how far away, as texts and elements; first, whether nothing looks like what is searched by. */
export function amountOf({ results, cursor, tied = null, unknown = false }) {
  const strange = unknown ? [el("strong", {}, "Nothing in this gallery looks like it."), " "] : [];
  if (!results.length) return [...strange, "Nothing found"];
  const far = results.map((item) => item.distance).filter((distance) => distance !== undefined);
  const [least, last] = [Math.min(...far), far.at(-1)]; // the same picture comes first, however far its code is
  const most = Math.max(...far);
  const range = !far.length ? "" : least === most ? `, ${count(most, "bit")} away` : `, ${least} to ${count(most, "bit")} away`;
  const ties = tied > far.filter((distance) => distance === last).length ? `; ${tied.toLocaleString("en")} in all are ${count(last, "bit")} away` : "";
  return [...strange, `${count(results.length, "image")}${cursor ? " so far" : ""}${range}${ties}`];
}

/** Why there is nothing, and ways on. @param {function(object): void} go to another state */
export function nothingFound(gallery, state, go) {
  if (!gallery.items) {
    const how = gallery.can_write ? el("p", {}, "Add images to it: there is a form for that.")
      : el("p", {}, "Add images to it: ", el("code", {}, "anglehash add GALLERY IMAGES"));
    return [el("p", {}, "This gallery is empty."), how];
  }
  const ways = [];
  if (state.within !== null) ways.push(["Any distance", { within: null }]);
  if (filters(state)) ways.push(["Clear the filters", NO_FILTERS]);
  const why = state.within !== null ? `No image is within ${count(state.within, "bit")}${filters(state) ? " and passes the filters" : ""}.`
    : filters(state) ? "No image passes the filters." : "No other image.";
  return [el("p", {}, why), el("p", { class: "buttons" },
    ...ways.map(([said, change]) => el("button", { type: "button", onclick: () => go(change) }, said)))];
}
