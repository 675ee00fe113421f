// Keys of the keyboard, the list of them, and the question for the service's key.

import { byId, el } from "./dom.js";

const SETTING = "anglehash-single-keys";

const LIST = [
  [["←", "→", "↑", "↓"], "go from image to image"], [["Enter"], "open the image"], [["s"], "similar to this image"],
  [["n"], "next page"], [["u"], "choose an image to search by"], [["/"], "filter by label"], [["b"], "browse all images"],
  [["h"], "health of the gallery"], [["Esc"], "close, or clear the query"], [["?"], "this list"],
];

/** Listen to single keys. @param {Object<string, function(): void>} acts what each key does */
export function listenToKeys(acts) {
  document.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.altKey || event.ctrlKey || event.metaKey || event.repeat) return;
    if (event.target.closest("input:not([type=range]), select, textarea") || byId("key-dialog").open) return;
    if (event.key.length === 1 && localStorage.getItem(SETTING) === "off" && event.key !== "?") return;
    if (byId("help").open || (byId("detail").open && event.key !== "s")) return;
    const act = acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
}

/** Show the list of keys. */
export function showHelp() {
  const dialog = byId("help");
  const box = el("input", { type: "checkbox", id: "single-keys" });
  box.checked = localStorage.getItem(SETTING) !== "off";
  box.addEventListener("change", () => localStorage.setItem(SETTING, box.checked ? "on" : "off"));
  dialog.replaceChildren(el("h2", { id: "help-title" }, "Keyboard"),
    el("dl", { class: "keys" }, ...LIST.map(([keys, act]) => el("div", {}, el("dt", {}, ...keys.map((key) => el("kbd", {}, key))), el("dd", {}, act)))),
    el("p", { class: "tick" }, box, el("label", { for: "single-keys" }, "Single letters are commands")),
    el("form", { method: "dialog", class: "buttons" }, el("button", { class: "main" }, "Close")));
  dialog.showModal();
}

/** Ask for the service's key. @param {string} why what was wrong with the last one @returns {Promise<string>} */
export function askKey(why) {
  const dialog = byId("key-dialog");
  const form = byId("key-form");
  if (why) byId("key-why").textContent = why;
  byId("key").value = "";
  dialog.addEventListener("cancel", (event) => event.preventDefault()); // without a key there is nothing to see
  dialog.showModal();
  return new Promise((resolve) => {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close();
      resolve(byId("key").value);
    }, { once: true });
  });
}
