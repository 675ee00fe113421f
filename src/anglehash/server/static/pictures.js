// Pictures of items: loaded as they come into sight, with the key where one is needed, and a sign where there is none.

import { getBlob, hasKey } from "./api.js";
import { el } from "./dom.js";

const AGAIN_MS = 1500;
const sources = new WeakMap();
const sight = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      sight.unobserve(target);
      fetchInto(target, sources.get(target));
    }
  },
  { rootMargin: "400px" },
);

/** An <img> of an address of the service. */
export function picture(url, alt) {
  const image = el("img", { alt, decoding: "async", draggable: "false" });
  if (hasKey()) {
    sources.set(image, url);
    sight.observe(image);
    return image;
  }
  image.loading = "lazy";
  image.addEventListener("load", () => image.classList.add("loaded"));
  image.addEventListener("error", () => tryAgain(image, url));
  image.src = url;
  return image;
}

/** An <img> of a file that the person chose. The browser may not know its format: then a sign stands for it. */
export function pictureOf(file, alt) {
  const image = el("img", { alt, class: "loaded" });
  image.addEventListener("error", () => missing(image));
  image.src = URL.createObjectURL(file);
  return image;
}

function tryAgain(image, url) {
  if (image.dataset.again) return missing(image);
  image.dataset.again = "yes"; // the service may have been busy
  setTimeout(() => (image.src = url), AGAIN_MS);
}

async function fetchInto(image, url) {
  try {
    image.src = URL.createObjectURL(await getBlob(url));
    await image.decode();
    image.classList.add("loaded");
  } catch {
    missing(image);
  } finally {
    URL.revokeObjectURL(image.src);
  }
}

function missing(image) {
  image.removeAttribute("src");
  image.classList.add("missing");
  image.closest(".frame")?.classList.add("none");
}
