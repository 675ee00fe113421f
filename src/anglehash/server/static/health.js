// The second view: how the gallery and its codes are.

import { getJson } from "./api.js";
import { byId, count, el, name, percent, svg } from "./dom.js";

const STUCK = 0.05; // a bit that so few or all but so few codes have says next to nothing

/** Show how the gallery is. @param {object} gallery what /v1/gallery says @param {function} labelHref */
export async function showHealth(gallery, labelHref) {
  const root = byId("view-health");
  const title = el("h1", { id: "health-title", tabindex: "-1" }, "Health");
  root.replaceChildren(title, el("p", { class: "loading", role: "status" }, "Counting …"));
  try {
    const health = await getJson("v1/gallery/health");
    root.replaceChildren(title, tiles(health), balance(health), labels(gallery, labelHref), problems(health.problems), model(gallery));
  } catch (error) {
    root.replaceChildren(title, el("p", { class: "alert shown", role: "alert" }, error.message));
  }
}

function tiles({ items, unique_codes, bits, problems }) {
  const stuck = bits.filter((share) => share < STUCK || share > 1 - STUCK).length;
  const rows = [
    [items.toLocaleString("en"), "images", ""],
    [unique_codes.toLocaleString("en"), "unique codes", items ? `${percent(unique_codes / items)} of the images` : ""],
    [String(bits.length), "bits a code", items && stuck ? `${stuck} of them nearly always the same` : "none of them stuck"],
    [problems.count.toLocaleString("en"), problems.count === 1 ? "problem" : "problems", problems.count ? "files that gave no code" : "every file gave a code"],
  ];
  return el("dl", { class: "cards" }, ...rows.map(([figure, what, note]) => el("div", {}, el("dt", {}, what, el("small", {}, note)), el("dd", {}, figure))));
}

function balance({ bits, items }) {
  if (!items) return null;
  const mean = bits.reduce((sum, share) => sum + share, 0) / bits.length;
  const low = bits.indexOf(Math.min(...bits));
  const high = bits.indexOf(Math.max(...bits));
  const said = `On average ${percent(mean)} of the images have a 1. Least: bit ${low + 1} with ${percent(bits[low])}; most: bit ${high + 1} with ${percent(bits[high])}.`;
  return el("section", {}, el("h2", {}, "Bit balance"),
    el("p", { class: "note" }, "The share of images that have a 1 at each bit. A bit tells most where half of them do."),
    el("figure", { class: "plot" }, plot(bits, said), el("figcaption", {}, said)),
    el("details", {}, el("summary", {}, "As a table"), table(["bit", "share of ones"], bits.map((share, i) => [String(i + 1), percent(share)]))));
}

function plot(bits, said) {
  const width = Math.max(280, Math.min(960, byId("view-health").clientWidth - 64)); // so that its text is as large as other text
  const [height, left, bottom] = [240, 52, 22];
  const step = (width - left) / bits.length;
  const y = (share) => 6 + (height - bottom - 6) * (1 - share);
  const lines = [0, 0.25, 0.5, 0.75, 1].flatMap((share) => [
    svg("line", { class: share === 0.5 ? "rule half" : "rule", x1: left, x2: width, y1: y(share), y2: y(share) }),
    svg("text", { x: left - 8, y: y(share) + 4, class: "scale end" }, `${100 * share} %`)]);
  const bars = bits.map((share, i) => svg("rect", {
    class: share < STUCK || share > 1 - STUCK ? "stuck" : null, x: (left + i * step + step * 0.14).toFixed(2), width: (step * 0.72).toFixed(2),
    y: Math.min(y(share), y(0.5)).toFixed(2), height: Math.max(1.5, Math.abs(y(share) - y(0.5))).toFixed(2), rx: Math.min(3, step / 5).toFixed(2),
  }, svg("title", {}, `Bit ${i + 1}: ${percent(share)}`)));
  const every = [4, 8, 16, 32, 64, 128, 256].find((n) => n * step >= 44) ?? 512;
  const names = bits.flatMap((_, i) => (i + 1) % every === 0 || i === 0
    ? [svg("text", { x: (left + (i + 0.5) * step).toFixed(2), y: height - 4, class: "scale middle" }, String(i + 1))] : []);
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Bit balance. ${said}` }, ...lines, ...bars, ...names);
}

function labels({ labels: all, items }, href) {
  if (!all.length) return null;
  const most = all[0].count;
  const rows = all.slice(0, 24).map(({ name: label, count: n }) => el("li", {},
    el("a", { href: href(label) }, name(label)), el("span", { class: "bar", "--share": String(n / most), "aria-hidden": "true" }),
    el("span", { class: "figure" }, n.toLocaleString("en"))));
  const note = all.length > 24 ? `The 24 most frequent of ${all.length >= 1000 ? "1,000 or more" : all.length}.` : `${count(all.length, "label")} on ${count(items, "image")}.`;
  return el("section", {}, el("h2", {}, "Labels"), el("p", { class: "note" }, note), el("ol", { class: "counts" }, ...rows));
}

function problems({ count: total, reasons, files }) {
  const parts = total === 0 ? [el("p", { class: "note" }, "None: every file that was seen gave a code.")]
    : [table(["reason", "files"], reasons.map(({ reason, count: n }) => [reason, n.toLocaleString("en")])),
      el("details", { open: files.length <= 12 }, el("summary", {}, files.length < total ? `The first ${files.length} files` : count(files.length, "file")),
        table(["file", "reason"], files.map(({ path, reason }) => [path, reason]), "files"))];
  return el("section", {}, el("h2", {}, "Problems"), ...parts);
}

function model({ model: own, bits, generation }) {
  const rows = [["Method", own.method], ["Backbone", own.backbone], ["Input", own.size && `${own.size} px`], ["Code", count(bits, "bit")],
    ["Classes", own.classes && own.classes.length.toLocaleString("en")], ["Generation", String(generation)], ["Id", own.id]];
  return el("section", {}, el("h2", {}, "Model"), el("dl", { class: "known" },
    ...rows.filter(([, value]) => value).map(([what, value]) => el("div", {}, el("dt", {}, what), el("dd", {}, name(value))))));
}

function table(heads, rows, kind = "") {
  return el("table", { class: kind || null }, el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, ...rows.map(([first, ...rest]) => el("tr", {}, el("th", { scope: "row" }, name(first)), ...rest.map((cell) => el("td", {}, cell))))));
}
