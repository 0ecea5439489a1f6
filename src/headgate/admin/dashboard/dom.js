// Small helpers: elements, text that is written only when it is another, numbers and moments for people.

export const byId = (id) => document.getElementById(id);

/** An element. Attributes by name; `text` is its text, `class` its class; children follow. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

/** A sign of the sprite in the page. */
export const icon = (name) => svg("svg", { class: "icon", "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

/** Write the text if it is another: what has not changed is not laid out, and not read out, again. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (value === null || value === undefined) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, value);
}

const whole = new Intl.NumberFormat("en");

export const count = (number) => whole.format(number);

/** Per second: three digits that matter. */
export function rate(number) {
  if (number >= 100 || number === 0) return whole.format(Math.round(number));
  return number >= 10 ? number.toFixed(1) : number < 0.01 ? "<0.01" : number.toFixed(2).replace(/0$/, "");
}

/** Milliseconds as [number, unit]. */
export function duration(ms) {
  if (ms === null || ms === undefined) return ["–", ""];
  if (ms >= 100000) return [(ms / 1000).toFixed(0), "s"];
  if (ms >= 1000) return [(ms / 1000).toPrecision(3), "s"];
  if (ms >= 100) return [ms.toFixed(0), "ms"];
  return [ms >= 10 ? ms.toFixed(1) : ms.toFixed(2), "ms"];
}

export const durationText = (ms) => duration(ms).join(" ").trim();

/** How long ago, in the largest unit that fits. */
export function age(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

const clock = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const short = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

export const timeOf = (ms) => clock.format(ms);
export const shortTime = (ms) => short.format(ms);
export const dayOf = (ms) => day.format(ms);

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  let value = number;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 100 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Make the children of `parent` be these, touching only what is not so already. */
export function arrange(parent, wanted) {
  let here = parent.firstChild;
  for (const node of wanted) {
    if (node === here) here = here.nextSibling;
    else parent.insertBefore(node, here);
  }
  while (here) {
    const next = here.nextSibling;
    here.remove();
    here = next;
  }
}

/** The rows of a description list, `pairs` of [term, text]. */
export function describe(list, pairs) {
  if (list.children.length !== pairs.length) {
    list.replaceChildren(...pairs.map(() => el("div", {}, el("dt"), el("dd"))));
  }
  pairs.forEach(([term, text], index) => {
    setText(list.children[index].firstChild, term);
    setText(list.children[index].lastChild, text);
  });
}
