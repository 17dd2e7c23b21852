// Find and build elements.

const SVG = "http://www.w3.org/2000/svg";

/** Return the element with an id. */
export const byId = (id) => document.getElementById(id);

/** Build an HTML element. Properties that start with "on" are listeners, the others attributes. */
export function html(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** Build an SVG element, as html() does. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Build an icon from a symbol of index.html. */
export function icon(name) {
  return svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#icon-${name}` }));
}

/** Return the name of an object: its class and a letter, "object B"; numbers stand for ranks. */
export function objectName({ class: name, id }) {
  const number = Number(id.replace(/\D/g, "")) || 0;
  return `${name} ${number > 0 && number <= 26 ? String.fromCharCode(64 + number) : number}`;
}

/** Build a button with an icon; the label is its accessible name and its tooltip. */
export function iconButton(name, label, onclick, properties = {}) {
  return html("button", { type: "button", "aria-label": label, title: label, onclick, ...properties }, icon(name));
}

/** Place an element of the photo: CSS keeps what has the class "fixed" at its size on the screen. */
export function at(node, [x, y]) {
  node.style.setProperty("--x", `${x}px`);
  node.style.setProperty("--y", `${y}px`);
  return node;
}

/** Show a sentence for a few seconds; screen readers read it out. */
export function notify(sentence, kind = "info") {
  const note = byId("note");
  note.textContent = sentence;
  note.className = `note visible ${kind}`;
  clearTimeout(notify.timer);
  notify.timer = setTimeout(() => note.classList.remove("visible"), kind === "error" ? 8000 : 4000);
}

function fill(node, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}
