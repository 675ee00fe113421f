// Elements. What comes from the service is put in as text and never as HTML, so no name can become markup.

/**
 * A new element.
 * @param {string} tag
 * @param {object} traits attributes; `onclick` and the like are listeners, `--share` and the like are CSS
 *     variables (set by the object model: the page's policy forbids style attributes), null leaves out
 * @param {...(Node|string|null)} children text stays text
 */
export function el(tag, traits = {}, ...children) {
  return dressed(document.createElement(tag), traits, children);
}

/** A new element of SVG; otherwise as `el`. */
export function svg(tag, traits = {}, ...children) {
  return dressed(document.createElementNS("http://www.w3.org/2000/svg", tag), traits, children);
}

function dressed(node, traits, children) {
  for (const [name, value] of Object.entries(traits)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);

/** A name that others chose, kept from turning the text around it: it may hold marks of direction. */
export const name = (text, traits = {}) => el("bdi", traits, text);

/** "1 image", "2,345 images". */
export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** "12 %"; what is not quite nothing or everything does not look like it. */
export function percent(share) {
  const figure = Math.round(100 * share);
  if (share > 0 && figure === 0) return "<1 %";
  if (share < 1 && figure === 100) return ">99 %";
  return `${figure} %`;
}

/** The last part of a path. */
export const fileName = (path) => path.split(/[/\\]/).filter(Boolean).pop() ?? path;

/** A size of a file for people. */
export function bytes(size) {
  for (const unit of ["bytes", "kB", "MB"]) {
    if (size < 1000) return `${Number(size.toPrecision(3))} ${unit}`;
    size /= 1000;
  }
  return `${Number(size.toPrecision(3))} GB`;
}
