// The query: an image that is dropped, pasted or chosen, and the card that shows what is searched by.

import { pattern } from "./bits.js";
import { byId, el, fileName, name } from "./dom.js";
import { picture, pictureOf } from "./pictures.js";

const files = new Map(); // the person's own images by their codes, so that going back shows them

/** Remember which image a code came from. */
export const rememberFile = (code, file) => files.set(code, file);

/** The image that a code came from, if a person gave one. */
export const fileOf = (code) => files.get(code);

/**
 * Take images wherever they are dropped, pasted or chosen.
 * @param {object} hear what is called: `image(file)`, `refuse(reason)`
 */
export function takeImages(hear) {
  const input = byId("file");
  const curtain = byId("dropping");
  let depth = 0;

  const take = (list) => {
    const file = [...list].find(({ type }) => type.startsWith("image/")) ?? list[0];
    if (file) hear.image(file);
  };
  byId("pick").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    take(input.files);
    input.value = "";
  });
  document.addEventListener("paste", (event) => {
    if (!event.clipboardData?.files.length) return; // text, perhaps into a field
    event.preventDefault();
    take(event.clipboardData.files);
  });

  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  const lower = () => {
    depth = 0;
    curtain.classList.remove("shown");
  };
  document.addEventListener("dragenter", (event) => {
    if (!carriesFiles(event)) return;
    depth += 1;
    curtain.classList.add("shown");
  });
  document.addEventListener("dragleave", (event) => {
    if (carriesFiles(event) && (depth -= 1) <= 0) lower();
  });
  document.addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
  document.addEventListener("drop", (event) => {
    if (!carriesFiles(event)) return;
    event.preventDefault();
    lower();
    if (event.dataTransfer.files.length) take(event.dataTransfer.files);
    else hear.refuse("Nothing came: drop a file, or save the image first and choose it.");
  });
}

/** Show an image that is being searched by. */
export function showWaiting(file) {
  fill(pictureOf(file, ""), name(file.name), "Searching …");
  byId("query").setAttribute("aria-busy", "true");
}

/** Show what is searched by. @param {object} state @param {object} answer */
export function showQuery(state, answer) {
  byId("query").removeAttribute("aria-busy");
  if (!state.like && !state.code) {
    byId("asked").hidden = true;
    byId("asked").replaceChildren();
    byId("drop").classList.remove("slim");
    byId("clear").hidden = true;
    return;
  }
  const file = files.get(state.code);
  const [image, title, note] = answer.item
    ? [picture(answer.item.thumbnail, ""), name(fileName(answer.item.id)), answer.item.labels.join(", ")]
    : file ? [pictureOf(file, ""), name(file.name), "your image"]
      : [null, "A code", "its image is not kept"];
  fill(image, title, note, answer.query && pattern(answer.query.code, answer.query.bits));
  byId("clear").hidden = false;
}

function fill(image, title, note, drawn = null) {
  byId("drop").classList.add("slim");
  const frame = el("span", { class: image ? "frame" : "frame none" });
  if (image) frame.append(image);
  byId("asked").replaceChildren(frame, el("p", {}, el("strong", {}, title), note ? el("small", {}, name(note)) : null), drawn ?? "");
  byId("asked").hidden = false;
}
