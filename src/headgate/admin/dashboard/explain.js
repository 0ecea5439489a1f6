// The form that asks where a request would go.

import { ask } from "./api.js";
import { byId, el, icon, setText } from "./dom.js";

const shown = (value) => (value === null || value === undefined || value === "" ? "–" : typeof value === "object" ? JSON.stringify(value) : String(value));

function headers(text) {
  const found = [];
  for (const line of text.split("\n")) {
    if (!line.trim()) continue;
    const colon = line.indexOf(":");
    if (colon <= 0) throw new Error(`“${line.trim()}” is no header field: it needs a name and a colon.`);
    found.push([line.slice(0, colon).trim(), line.slice(colon + 1).trim()]);
  }
  return found;
}

/** A line about a thing that may be a name or a table with one. */
const named = (value) => (value && typeof value === "object" ? shown(value.name ?? value.text ?? value.bind ?? value) : shown(value));

function answer(found) {
  const facts = [["Listener", named(found.listener)], ["Route", named(found.route)], ["Pool", named(found.pool)], ["Strategy", named(found.strategy)], ["Would be picked", named(found.picked)]];
  const parts = [el("dl", { class: "pairs" }, ...facts.map(([term, text]) => el("div", {}, el("dt", { text: term }), el("dd", { text }))))];
  const shadowed = found.shadowed ?? [];
  if (shadowed.length) parts.push(el("p", {}, el("b", { text: "Match as well, but come later: " }), shadowed.map(named).join(", ")));
  for (const note of found.notes ?? []) parts.push(el("p", { class: "hint", text: named(note) }));
  const candidates = found.candidates ?? [];
  if (candidates.length) {
    const picked = named(found.picked);
    const rows = candidates.map((one) => el("tr", { "data-tone": one.routable ? "ok" : "bad" },
      el("th", { scope: "row" }, icon(one.routable ? "up" : "down"), ` ${one.name}`, ...(one.name === picked ? [el("b", { class: "chip", text: "picked" })] : [])),
      el("td", { text: shown(one.state) }), el("td", { text: shown(one.reason) }), el("td", { class: "number", text: shown(one.score) })));
    parts.push(el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Candidates" }, el("table", {}, el("thead", {}, el("tr", {}, ...["Candidate", "State", "Why", "Score"].map((text) => el("th", { scope: "col", text })))), el("tbody", {}, ...rows))));
  }
  return parts;
}

export function explain() {
  byId("explain-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button");
    const error = byId("explain-error");
    setText(error, "");
    button.disabled = true;
    try {
      const body = { method: byId("x-method").value, url: byId("x-url").value.trim(), headers: headers(byId("x-headers").value) };
      const client = byId("x-client").value.trim();
      if (client) body.client = client;
      byId("explained").replaceChildren(...answer(await ask("POST", "/explain", body)));
    } catch (problem) {
      byId("explained").replaceChildren();
      setText(error, [problem.message, ...(problem.problems ?? [])].join(" "));
    }
    button.disabled = false;
    button.focus();
  });
}
