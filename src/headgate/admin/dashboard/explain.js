// The form that asks where a request would go.

import { ask } from "./api.js";
import { byId, el, icon, setText } from "./dom.js";

const CANDIDATES = 100;

const shown = (value) =>
  value === null || value === undefined || value === ""
    ? "–"
    : typeof value === "object"
      ? JSON.stringify(value)
      : String(value);

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

const routeText = (route) => (route ? `${route.host || "every host"}, ${route.pathPrefix} → ${route.pool}` : "none");

function list(title, texts) {
  return texts.length
    ? [
        el(
          "div",
          {},
          el("h3", { text: title }),
          el("ul", { class: "plain" }, ...texts.map((text) => el("li", { text }))),
        ),
      ]
    : [];
}

function answer(found) {
  const facts = [
    ["Listener", shown(found.listener)],
    ["Route", found.route ? `${routeText(found.route)}: ${found.route.why}` : "none"],
    ["Pool", shown(found.pool)],
    ["Strategy", [found.strategy, found.rule].filter(Boolean).join(": ") || "–"],
    ...(found.sticky ? [["Session", found.sticky.why]] : []),
    [
      "Would be picked",
      found.picked || (found.status ? `nobody: the balancer answers ${found.status}` : "nobody can say"),
    ],
  ];
  const parts = [
    el(
      "dl",
      { class: "pairs" },
      ...facts.map(([term, text]) => el("div", {}, el("dt", { text: term }), el("dd", { text }))),
    ),
    ...list(
      "Match as well, but do not serve it",
      (found.shadowed ?? []).map((one) => `${routeText(one)}: ${one.why}`),
    ),
    ...list(
      "Passed over",
      (found.passed ?? []).map((one) => `${one.pool}: ${one.why}`),
    ),
    ...list("To be known", found.notes ?? []),
    ...list(
      "By worker",
      (found.workers ?? []).map((one) => `worker ${one.worker}: ${one.outcome}`),
    ),
  ];
  const all = found.candidates ?? [];
  const candidates = [...all].sort((a, b) => Number(b.picked) - Number(a.picked)).slice(0, CANDIDATES);
  if (candidates.length) {
    const rows = candidates.map((one) =>
      el(
        "tr",
        { "data-tone": one.routable ? "ok" : "bad" },
        el(
          "th",
          { scope: "row" },
          icon(one.routable ? "up" : "down"),
          ` ${one.name} `,
          ...(one.picked ? [el("b", { class: "chip", text: "picked" })] : []),
        ),
        el("td", { text: shown(one.state) }),
        el("td", { text: shown(one.reason) }),
        el("td", { text: one.scoreText || shown(one.score) }),
      ),
    );
    if (all.length > candidates.length)
      parts.push(el("p", { class: "hint", text: `${candidates.length} of ${all.length} candidates are shown.` }));
    parts.push(
      el(
        "div",
        { class: "scroll", tabindex: "0", role: "region", "aria-label": "Candidates" },
        el(
          "table",
          {},
          el(
            "thead",
            {},
            el("tr", {}, ...["Candidate", "State", "Why", "Score"].map((text) => el("th", { scope: "col", text }))),
          ),
          el("tbody", {}, ...rows),
        ),
      ),
    );
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
      const body = {
        method: byId("x-method").value,
        url: byId("x-url").value.trim(),
        headers: headers(byId("x-headers").value),
      };
      const client = byId("x-client").value.trim();
      if (client) body.client = client;
      const found = await ask("POST", "/explain", body);
      byId("explained").replaceChildren(...answer(found));
      // Of it all, what is read out.
      setText(byId("explain-outcome"), found.outcome ?? "");
    } catch (problem) {
      byId("explained").replaceChildren();
      setText(byId("explain-outcome"), "");
      setText(error, [problem.message, ...(problem.problems ?? [])].join(" "));
    }
    button.disabled = false;
    button.focus();
  });
}
