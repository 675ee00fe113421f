// Adding and removing, for those who have a key for it.

import { deleteJson, getJson, postForm } from "./api.js";
import { byId, count, el, fileName, name } from "./dom.js";

const LOOK_AGAIN = 400; // milliseconds between two looks at a job
const MOST_NAMED = 5; // images that were not added, by name

/** The form that adds images. @param {function(): Promise} changed called when the gallery has changed */
export function createAdding(changed) {
  const form = byId("adding-form");
  const files = byId("new-images");
  const button = byId("add");

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!files.files.length) return say("Choose one image or several first.");
    button.disabled = true;
    say(`Sending ${count(files.files.length, "image")} …`);
    try {
      const job = await followed(await postForm("v1/items", body()));
      files.value = "";
      await changed();
      report(job);
    } catch (error) {
      say(`Nothing is known to be added: ${error.message}`, true);
    } finally {
      button.disabled = false;
    }
  });

  function body() {
    const sent = new FormData();
    const labels = byId("new-labels").value.split(",").map((label) => label.trim()).filter(Boolean);
    if (labels.length) sent.set("labels", JSON.stringify(labels));
    for (const file of files.files) sent.append("image", file);
    return sent;
  }

  async function followed({ url }) {
    for (;;) {
      const job = await getJson(url);
      if (job.state === "done") return job;
      if (job.state === "failed") throw new Error(job.error || "the job failed");
      say(`${job.done} of ${count(job.total, "image")} looked at …`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN));
    }
  }

  function report({ added, skipped }) {
    const reported = skipped.slice(0, MOST_NAMED).map((one) => el("li", {}, name(one.name || "an image"), `: ${one.reason}`));
    if (skipped.length > MOST_NAMED) reported.push(el("li", {}, `and ${skipped.length - MOST_NAMED} more`));
    say(el("span", {}, `${count(added, "image")} added${skipped.length ? `, ${skipped.length} not:` : "."}`), skipped.length > 0);
    if (reported.length) byId("add-status").append(el("ul", {}, ...reported));
  }

  function say(text, wrong = false) {
    byId("add-status").classList.toggle("wrong", wrong);
    byId("add-status").replaceChildren(text);
  }
}

/** The button that removes an item, and the question before it does. @param {function(object): void} removed */
export function removal(item, removed) {
  const place = el("div", { class: "removal" });
  const kept = item.id.startsWith("uploads/") ? "Its file, which was sent to the service, goes too." : "Its file stays where it is.";

  function offer() {
    place.replaceChildren(el("button", { type: "button", class: "quiet", onclick: confirm }, "Remove from the gallery"));
  }

  function confirm() {
    const yes = el("button", { type: "button", class: "danger", onclick: remove }, "Remove");
    const no = el("button", { type: "button", onclick: offer }, "Keep");
    place.replaceChildren(el("p", {}, "Remove ", name(fileName(item.id)), ` from the gallery? ${kept}`), el("p", { class: "buttons" }, yes, no));
    no.focus(); // not the one that cannot be undone
  }

  async function remove() {
    for (const button of place.querySelectorAll("button")) button.disabled = true;
    try {
      await deleteJson(item.item);
      removed(item);
    } catch (error) {
      offer();
      place.append(el("p", { class: "wrong", role: "alert" }, `It is not removed: ${error.message}`));
    }
  }

  offer();
  return place;
}
