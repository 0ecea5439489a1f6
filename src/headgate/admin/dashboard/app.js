// The page: what comes from the balancer goes into the model, and from there, at most once a frame, on the screen.

import { token } from "./api.js";
import { Chart } from "./chart.js";
import {
  age,
  byId,
  bytes,
  count,
  dayOf,
  describe,
  duration,
  durationText,
  el,
  icon,
  rate,
  setAttribute,
  setText,
  timeOf,
} from "./dom.js";
import { explain } from "./explain.js";
import { Manage } from "./manage.js";
import { Model, WORDS, thinned, toneOf } from "./model.js";
import { Pools } from "./pools.js";
import { Stream } from "./stream.js";
import { Timeline } from "./timeline.js";

const STALE_MS = 3000; // the balancer says something every second
const SOON_DAYS = 14; // whatever renews it should have done so by then
const ROUTES = 200; // rows of the table
const NAMED = 6; // backends in trouble that are named at the top

const model = new Model();
const manage = new Manage(model);
const pools = new Pools((id, opener) => manage.open(id, opener));
const timeline = new Timeline();
const charts = {
  rate: new Chart(
    byId("chart-rate"),
    [
      { column: 1, name: "requests", class: "one", area: true },
      { column: 2, name: "5xx", class: "bad", area: true },
    ],
    (value) => rate(value),
  ),
  latency: new Chart(
    byId("chart-latency"),
    [
      { column: 3, name: "p50", class: "one" },
      { column: 4, name: "p95", class: "two" },
      { column: 5, name: "p99", class: "three" },
    ],
    durationText,
  ),
  flight: new Chart(byId("chart-flight"), [{ column: 6, name: "in flight", class: "one", area: true }], (value) =>
    count(Math.round(value * 10) / 10),
  ),
};
let range = "seconds";
let link = { word: "connecting" };
let planned = false;
let drawn = {};

// The connection

const stream = new Stream(token.get, () => model.seen, {
  message(name, data) {
    model.apply(name, data);
    byId("gate").hidden = true;
    byId("board").hidden = false;
    byId("nav").hidden = false;
    byId("forget").hidden = !token.get();
    plan();
  },
  state(word, detail = {}) {
    link = { ...detail, word };
    if (word === "refused") refused(detail);
    showLink();
  },
});

function refused({ status, word, reason }) {
  const wanted = status === 401;
  byId("board").hidden = true;
  byId("nav").hidden = true;
  byId("forget").hidden = true;
  if (manage.dialog.open) manage.dialog.close();
  byId("gate").hidden = false;
  byId("gate-form").hidden = !wanted;
  setText(byId("gate-title"), wanted ? "This balancer wants its token" : "This balancer does not answer here");
  const error = byId("gate-error");
  if (wanted) {
    const given = token.get();
    token.forget();
    setText(error, word === "token_wrong" || given ? "That is not the token." : "");
    setAttribute(byId("token"), "aria-invalid", given ? "true" : null);
    byId("token").select();
    byId("token").focus();
  } else {
    setText(error, reason);
    byId("gate").append(error);
  }
}

/** With the token there is, or without one where none is needed: over a unix socket the kernel says who asks. */
async function enter() {
  if (!token.get()) {
    const answer = await fetch("/dashboard/access", { cache: "no-store" })
      .then((response) => response.json())
      .catch(() => null);
    if (answer?.token) {
      link = { word: "refused" };
      refused({ status: 401, word: "token_missing" });
      showLink();
      return;
    }
  }
  stream.start();
}

byId("gate-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(byId("token").value.trim());
  byId("token").value = "";
  setText(byId("gate-error"), "");
  stream.start();
});
byId("forget").addEventListener("click", () => {
  token.forget();
  stream.stop();
  location.reload();
});
byId("retry").addEventListener("click", () => stream.retry());

const LINK = {
  connecting: "Connecting",
  live: "Live",
  waiting: "Not connected",
  refused: "Not connected",
  asleep: "Paused",
};

/** How old what is shown is, said so that nobody takes the past for the present. */
function showLink() {
  const silent = model.heard ? Date.now() - model.heard : 0;
  const stale = model.heard && silent > STALE_MS && link.word !== "asleep";
  const word = stale && link.word === "live" ? "waiting" : link.word;
  byId("link").dataset.state = word;
  setText(byId("link-word"), LINK[word]);
  setText(
    byId("link-more"),
    link.word === "waiting" ? ` · again in ${Math.max(0, Math.ceil((link.until - Date.now()) / 1000))} s` : "",
  );
  byId("retry").hidden = link.word !== "waiting";
  document.body.dataset.stale = Boolean(stale);
  byId("stale").hidden = !stale;
  if (stale)
    setText(
      byId("stale"),
      `What you see is ${age(silent)} old, from ${timeOf(model.heard + model.clockOffset)}${link.why ? `: ${link.why}` : ""}.`,
    );
}

setInterval(() => {
  showLink();
  if (document.body.dataset.stale === "true" && model.about) verdict();
}, 500);

// Drawing

function plan() {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => {
    planned = false;
    draw();
  });
}

function draw() {
  if (!model.about) return;
  const { version, configFile, pid, started } = model.about;
  setText(byId("where"), `${location.host} · ${configFile || "no file"} · ${version}`);
  setAttribute(byId("where"), "title", `process ${pid}, since ${dayOf(started)} ${timeOf(started)}`);
  verdict();
  tiles();
  past();
  pools.draw(model);
  if (drawn.happened !== model.happened) timeline.draw(model);
  routes();
  process();
  manage.draw();
  drawn = { happened: model.happened, layout: model.layout };
}

/** The one look: what is wrong, the worst first, and since when. */
function verdict() {
  const found = [];
  const bad = [];
  let out = 0;
  for (const backend of model.backends.values()) {
    if (backend.state !== "up") out += 1;
    if (toneOf(backend) === "bad") bad.push(backend);
  }
  const emptied = [...model.pools.values()].filter(
    (pool) =>
      pool.members.length &&
      !pool.numbers[6] &&
      !pool.members.some((member) => member.state === "up" && member.weight > 0),
  );
  for (const pool of emptied)
    found.push(["bad", `Pool ${pool.name} has nobody left for new requests: clients get 503`]);
  for (const pool of model.pools.values())
    if (pool.numbers[6])
      found.push([
        "bad",
        `Pool ${pool.name} is in panic: ejected backends are used again, since too few others are left`,
      ]);
  if (!model.about.ready) found.push(["bad", "It lets no clients in: starting, or stopping"]);
  for (const worker of model.workers)
    if (worker.problem)
      found.push(["bad", `Worker ${worker.worker} does not run the last configuration: ${worker.problem}`]);
  for (const listener of model.listeners)
    if (listener.state !== "open" && model.about.ready)
      found.push(["warn", `Listener ${listener.bind} is ${listener.state}`]);
  for (const certificate of expiring()) found.push(certificate);
  const errors = share();
  if (errors >= 1) found.push(["bad", `${errors.toFixed(errors < 10 ? 1 : 0)} % of answers are 5xx`]);
  bad.sort((a, b) => b.since - a.since);
  for (const backend of bad.slice(0, NAMED))
    found.push([
      "bad",
      `${backend.pool}/${backend.name} ${WORDS[backend.state].toLowerCase()} for ${age(model.now - backend.since)}: ${backend.reason}`,
      backend.id,
    ]);
  if (bad.length > NAMED) found.push(["bad", `and ${count(bad.length - NAMED)} more`]);

  const all = model.backends.size;
  const sentence = !all
    ? "There are no backends."
    : out
      ? `${count(out)} of ${count(all)} backends ${out === 1 ? "does" : "do"} not serve as usual.`
      : found.length
        ? `All ${count(all)} backends serve, but:`
        : all === 1
          ? "The one backend serves."
          : `All ${count(all)} backends serve.`;
  const tone = found.some(([one]) => one === "bad") ? "bad" : found.length || out ? "warn" : "ok";
  const box = byId("verdict");
  if (box.dataset.tone !== tone) {
    box.dataset.tone = tone;
    box.firstChild.replaceWith(icon(tone === "ok" ? "up" : "warning"));
  }
  setText(byId("verdict-text"), sentence);
  const list = byId("notices");
  if (list.children.length !== found.length) list.replaceChildren(...found.map(() => el("li")));
  found.forEach(([one, text], index) => {
    list.children[index].dataset.tone = one;
    setText(list.children[index], text);
  });
}

const ends = (one) =>
  one.days < 0
    ? `expired on ${dayOf(one.ends)}`
    : `expires in ${one.days} ${one.days === 1 ? "day" : "days"}, on ${dayOf(one.ends)}`;

function expiring() {
  return model.certificates
    .filter((one) => one.days < SOON_DAYS)
    .map((one) => [
      one.days < 3 ? "bad" : "warn",
      `Certificate of ${one.names.join(", ") || one.file} (${one.where}): ${ends(one)}`,
    ]);
}

/** Percent of answers of the last ten seconds that were 5xx. */
function share() {
  const rows = model.seconds.slice(-10);
  const requests = rows.reduce((sum, row) => sum + row[1], 0);
  return requests ? Math.min(100, (rows.reduce((sum, row) => sum + row[2], 0) / requests) * 100) : 0;
}

function tiles() {
  const last = model.seconds.at(-1);
  // Two seconds' mean: alive, and not a flicker.
  const rows = model.seconds.slice(-2);
  const perSecond = rows.length ? rows.reduce((sum, row) => sum + row[1], 0) / rows.length : 0;
  setText(byId("t-rate"), rate(perSecond));
  const errors = share();
  setText(
    byId("t-errors"),
    errors && errors < 0.01 ? "<0.01" : errors >= 10 ? errors.toFixed(0) : errors.toFixed(errors ? 2 : 0),
  );
  byId("t-errors").closest("div").dataset.tone = errors >= 1 ? "bad" : errors > 0 ? "warn" : "ok";
  ["p50", "p95", "p99"].forEach((name, index) => {
    const [number, unit] = duration(model.recent[index]);
    setText(byId(`t-${name}`), number);
    setText(byId(`t-${name}-unit`), unit);
  });
  setText(byId("t-flight"), count(last ? last[6] : model.totals.inFlight));
  setText(byId("t-clients"), count(last ? last[7] : model.totals.connections));
  setText(byId("t-up"), count(model.up));
  setText(byId("t-all"), `of ${count(model.backends.size)} up`);
}

function past() {
  const step = range === "seconds" ? 5 : 300;
  const rows = thinned(model[range], step);
  const until = Math.floor(model.now / 1000);
  for (const chart of Object.values(charts)) chart.draw(rows, until, range === "seconds" ? 900 : 86400, step);
}

for (const input of document.querySelectorAll("input[name=range]")) {
  input.addEventListener("change", () => {
    range = input.value;
    past();
  });
}

function routes() {
  const body = byId("route-rows");
  const shown = model.routes.slice(0, ROUTES);
  if (drawn.layout !== model.layout) {
    body.replaceChildren(
      ...shown.map((route) =>
        el(
          "tr",
          {},
          el("td", { text: route.host ?? "every" }),
          el("td", {}, el("code", { text: route.pathPrefix })),
          el("td", { text: route.listener ?? "all" }),
          el("td", { text: route.pool }),
          ...[0, 1, 2].map(() => el("td", { class: "number" })),
        ),
      ),
    );
    byId("more-routes").hidden = shown.length === model.routes.length;
    setText(byId("more-routes"), `and ${count(model.routes.length - shown.length)} more, which GET /config names`);
  }
  shown.forEach((route, index) => {
    const cells = body.children[index].children;
    // Counted together with others, where there are more routes than places to count them.
    const [perSecond, failing, requests] = route.numbers ?? [];
    setText(cells[4], perSecond === undefined ? "–" : rate(perSecond));
    setText(cells[5], failing === undefined ? "–" : rate(failing));
    setText(cells[6], requests === undefined ? "–" : count(requests));
  });
}

function process() {
  const body = byId("worker-rows");
  const rows = model.workers.map((one) => [
    String(one.worker),
    String(one.pid),
    count(one.connections),
    count(one.inFlight),
    count(one.requests),
    one.problem || `generation ${one.generation}`,
  ]);
  if (body.children.length !== rows.length) {
    body.replaceChildren(
      ...rows.map(() =>
        el("tr", {}, el("th", { scope: "row" }), ...[1, 2, 3, 4].map(() => el("td", { class: "number" })), el("td")),
      ),
    );
  }
  rows.forEach((row, index) => row.forEach((text, column) => setText(body.children[index].children[column], text)));
  const listeners = byId("listener-rows");
  if (listeners.children.length !== model.listeners.length)
    listeners.replaceChildren(...model.listeners.map(() => el("li", {}, el("code"), " ", el("span"))));
  model.listeners.forEach((one, index) => {
    setText(listeners.children[index].firstChild, one.bind);
    setText(listeners.children[index].lastChild, one.state);
  });
  byId("certificates").hidden = !model.certificates.length;
  const certificates = byId("certificate-rows");
  if (certificates.children.length !== model.certificates.length)
    certificates.replaceChildren(...model.certificates.map(() => el("li", {}, el("code"), " ", el("span"))));
  model.certificates.forEach((one, index) => {
    setText(certificates.children[index].firstChild, one.names.join(", ") || one.file);
    setText(certificates.children[index].lastChild, `${one.where}, ${ends(one)}`);
  });
  const totals = model.totals;
  describe(byId("totals"), [
    ["Requests", count(totals.requests)],
    ...Object.entries(totals.statuses)
      .filter(([name, number]) => number || ["2xx", "5xx"].includes(name))
      .map(([name, number]) => [name === "none" ? "Without an answer" : `Answers ${name}`, count(number)]),
    [
      "Retries",
      `${count(totals.retries)}${totals.retriesRefused ? `, ${count(totals.retriesRefused)} refused by the budget` : ""}`,
    ],
    ["Clients accepted", count(totals.accepted)],
    ["Body bytes", `${bytes(totals.bytesReceived)} in, ${bytes(totals.bytesSent)} out`],
    ["Log lines dropped", count(totals.logDropped)],
  ]);
  describe(
    byId("outcomes"),
    Object.entries(totals.outcomes)
      .sort((a, b) => b[1] - a[1])
      .map(([word, number]) => [word, count(number)]),
  );
}

document.addEventListener("visibilitychange", () => !document.hidden && plan());
explain();
enter();
