// The page: the address says what is on show; everything else follows from it.

import { getJson, onKeyNeeded } from "./api.js";
import { createDetail } from "./detail.js";
import { byId, count, el } from "./dom.js";
import { createFilters } from "./filters.js";
import { createGrid, keyOf } from "./grid.js";
import { showHealth } from "./health.js";
import { askKey, listenToKeys, showHelp } from "./keys.js";
import { rememberFile, showQuery, showWaiting, takeImages } from "./query.js";
import { find, findByImage, findMore, forget, forgetAll, keep } from "./search.js";
import { START, address, parse, searchOf } from "./state.js";
import { NO_FILTERS, amountOf, nothingFound, titleOfAnswer } from "./messages.js";
import { createAdding } from "./writing.js";

let state = parse(location.hash);
let gallery = null;
let answer = null; // to what is on show
let pending = new AbortController();
let loadingMore = null;
let showFilters = () => {};
let focusNext = ""; // where the keyboard goes after the next answer

const grid = createGrid(byId("grid"), {
  open: (item) => go({ open: keyOf(item) }),
  similar: (item) => similar(keyOf(item)),
  more: () => more(),
});
const detail = createDetail({
  close: closeDetail,
  similar: (key) => similar(key),
  label: (label) => go({ labels: [label], open: "" }),
  step: stepDetail,
  removed: async () => {
    go({ open: "" }, { replace: true });
    await changed();
  },
});

// --- going from state to state

function go(change, { replace = false } = {}) {
  if (answer) answer.scroll = scrollY;
  const next = { ...state, ...change };
  const opened = Boolean(next.open) && (!state.open || history.state?.opened);
  history[replace ? "replaceState" : "pushState"]({ opened: opened && !replace ? true : history.state?.opened }, "", address(next));
  show(next);
}

function similar(key) {
  focusNext = "first";
  go({ ...START, ...pick(state, Object.keys(NO_FILTERS)), like: key, within: state.within });
}

const pick = (object, names) => Object.fromEntries(names.map((name) => [name, object[name]]));

function closeDetail() {
  if (history.state?.opened) history.back();
  else go({ open: "" }, { replace: true });
}

async function stepDetail(by) {
  let item = grid.beside(state.open, by);
  if (!item && by > 0 && answer?.cursor) {
    await more();
    item = grid.beside(state.open, by);
  }
  if (item) go({ open: keyOf(item) }, { replace: true });
}

async function show(next) {
  const before = state;
  state = next;
  for (const view of ["images", "health"]) {
    if (state.view === view) byId(`to-${view}`).setAttribute("aria-current", "page");
    else byId(`to-${view}`).removeAttribute("aria-current");
  }
  byId("view-images").hidden = state.view !== "images";
  byId("view-health").hidden = state.view !== "health";
  document.title = state.view === "health" ? "Health · anglehash" : "anglehash";
  if (!gallery) return;
  if (state.view === "health") {
    detail.close();
    await showHealth(gallery, (label) => address({ ...START, labels: [label] }));
    return;
  }
  showFilters(state, gallery);
  if (!answer || searchOf(before) !== searchOf(state) || before.view !== "images") await search();
  showDetail(before);
}

function showDetail(before) {
  if (state.open) {
    if (detail.key !== state.open) detail.show(state.open, grid.item(state.open), answer?.query, gallery);
  } else if (detail.open) {
    detail.close();
    if (before.open && grid.item(before.open)) grid.focusKey(before.open);
  }
}

// --- searching

async function search() {
  const signal = restart();
  const mine = state;
  const timer = setTimeout(() => signal.aborted || waiting(), 120); // what is quick should not flicker
  byId("main").setAttribute("aria-busy", "true");
  try {
    const found = await find(mine, signal);
    clearTimeout(timer);
    if (!signal.aborted) present(found);
  } catch (error) {
    clearTimeout(timer);
    if (error.name !== "AbortError" && !signal.aborted) failed(error);
  }
}

function restart() {
  pending.abort();
  pending = new AbortController();
  loadingMore = null;
  complain("");
  return pending.signal;
}

async function searchByImage(file) {
  if (!gallery) return;
  if (!gallery.can_encode) return complain("This gallery has no model to encode images with: choose one of its images instead.");
  if (state.view !== "images") go({ ...START });
  const signal = restart();
  const mine = { ...state, like: "", open: "" };
  showWaiting(file);
  waiting();
  try {
    const found = await findByImage(file, mine, signal);
    if (signal.aborted) return;
    rememberFile(found.query.code, file);
    const next = { ...mine, code: found.query.code };
    keep(next, found);
    focusNext = "title";
    answer = null;
    go(next);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    answer = null;
    await search(); // what was there before
    complain(`${file.name} cannot be searched by: ${error.message}`);
  }
}

function waiting() {
  answer = null;
  byId("title").textContent = "Searching …";
  byId("status").textContent = "";
  byId("empty").hidden = true;
  byId("more").hidden = true;
  byId("end").textContent = "";
  grid.wait(12);
}

function present(found) {
  answer = found;
  byId("main").removeAttribute("aria-busy");
  grid.clear();
  grid.add(found.results, gallery.bits, hrefOf);
  showQuery(state, found);
  byId("title").replaceChildren(...titleOfAnswer(state, found));
  tell();
  scrollTo({ top: found.scroll, behavior: "instant" });
  if (focusNext === "first" && grid.length) grid.focus(0);
  else if (focusNext) byId("title").focus();
  focusNext = "";
}

const hrefOf = (item) => address({ ...state, open: keyOf(item) });

/** Say how much is on show, and what to do where that is nothing. */
function tell() {
  const { results, cursor } = answer;
  byId("status").replaceChildren(...amountOf(answer));
  byId("more").hidden = !cursor;
  byId("end").textContent = !cursor && results.length > 12 ? "That is all." : "";
  byId("empty").hidden = results.length > 0;
  byId("empty").replaceChildren(...(results.length ? [] : nothingFound(gallery, state, go)));
}

function failed(error) {
  byId("main").removeAttribute("aria-busy");
  grid.clear();
  byId("title").textContent = "That did not work";
  byId("status").textContent = "";
  showQuery({ like: "", code: "" });
  byId("empty").hidden = false;
  byId("empty").replaceChildren(el("p", {}, error.message), el("p", { class: "buttons" },
    el("button", { type: "button", class: "main", onclick: () => (gallery ? search() : location.reload()) }, "Try again"),
    el("button", { type: "button", onclick: () => go({ ...START }) }, "All images")));
  complain(error.message);
}

async function more() {
  if (!answer?.cursor) return;
  loadingMore ??= loadMore().finally(() => (loadingMore = null));
  await loadingMore;
}

async function loadMore() {
  const { signal } = pending;
  const mine = answer;
  byId("more").disabled = true;
  try {
    const results = await findMore(state, mine, signal);
    if (answer !== mine) return;
    grid.add(results, gallery.bits, hrefOf);
    tell();
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 422) forget(state); // the cursor is of a service that was restarted
    complain(`The next images did not come: ${error.message}`);
  } finally {
    byId("more").disabled = false;
  }
}

async function nextPage() {
  const first = grid.length;
  await more();
  grid.focus(first);
}

function complain(text) {
  byId("alert").classList.toggle("shown", Boolean(text));
  byId("alert").replaceChildren(...(text ? [el("span", {}, text),
    el("button", { type: "button", class: "quiet round", "aria-label": "Dismiss", onclick: () => complain("") }, "×")] : []));
}

// --- beginning

function listen() {
  addEventListener("popstate", () => {
    if (answer) answer.scroll = scrollY;
    show(parse(location.hash));
  });
  for (const id of ["to-images", "to-health"]) {
    byId(id).addEventListener("click", (event) => {
      event.preventDefault();
      go(parse(byId(id).hash));
    });
  }
  byId("skip").addEventListener("click", (event) => {
    event.preventDefault();
    if (state.view === "images" && grid.length) grid.focus();
    else byId(state.view === "health" ? "health-title" : "title").focus();
  });
  byId("to-help").addEventListener("click", showHelp);
  byId("more").addEventListener("click", nextPage);
  byId("clear").addEventListener("click", clearQuery);
  new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && more(), { rootMargin: "600px" }).observe(byId("more"));
  takeImages({ image: searchByImage, refuse: complain });
  listenToKeys({
    s: () => similarToCurrent(), n: nextPage, u: () => byId("pick").click(), "?": showHelp,
    b: () => go({ ...START }), h: () => go({ ...START, view: "health" }), Escape: clearQuery,
    "/": () => {
      byId("filters").open = true;
      byId(gallery?.labels.length ? "label" : "path").focus();
    },
  });
}

function similarToCurrent() {
  const key = state.open || (grid.at() && keyOf(grid.at()));
  if (key) similar(key);
}

function clearQuery() {
  if (!state.like && !state.code) return;
  focusNext = "title";
  go({ like: "", code: "", within: null });
}

async function begin() {
  history.scrollRestoration = "manual";
  onKeyNeeded(askKey);
  listen();
  byId("filters").open = matchMedia("(min-width: 56rem)").matches;
  show(state);
  if (state.view === "images") waiting();
  try {
    await look();
  } catch (error) {
    return failed(error);
  }
  createAdding(changed);
  showFilters = createFilters(gallery, (change, replace) => go({ ...change, open: "" }, { replace }), () => state);
  return show(state);
}

async function look() {
  gallery = await getJson("v1/gallery");
  byId("facts").textContent = [count(gallery.items, "image"), count(gallery.bits, "bit"), gallery.model.method].filter(Boolean).join(" · ");
  byId("pick").disabled = !gallery.can_encode;
  byId("adding").hidden = !(gallery.can_write && gallery.can_encode);
}

/** The gallery has other images now: what is on show is asked for again. */
async function changed() {
  forgetAll();
  await look();
  showFilters(state, gallery);
  await search();
}

begin();
