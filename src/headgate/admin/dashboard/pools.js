// Pools and their backends: cards where there are few, rows where there are many, and never more of them than one can
// look at.

import { Sparkline } from "./chart.js";
import { arrange, byId, count, duration, durationText, el, icon, rate, setAttribute, setText } from "./dom.js";
import { WORDS, toneOf } from "./model.js";

const CARDS = 12; // more of one pool are shown as rows
const PAGE = 48; // shown at a time; in trouble first
const OPEN = 8; // with more pools than that, those without trouble are closed at first

const metric = (term, hint) => {
  const value = el("dd", {}, el("b"), el("span"));
  return {
    node: el("div", {}, el("dt", { text: term, title: hint }), value),
    number: value.firstChild,
    unit: value.lastChild,
  };
};

class BackendView {
  #states = -1;
  #pointed = -1;

  constructor(id, manage) {
    this.id = id;
    this.sign = el("span", { class: "state" });
    this.word = el("span");
    this.name = el("span", { class: "name" });
    this.url = el("span", { class: "url" });
    this.reason = el("p", { class: "reason" });
    this.rate = metric("req/s", "Attempts a second");
    this.failures = metric("failed/s", "Attempts a second that count against it");
    this.active = metric("in flight", "Attempts in flight, all workers");
    this.weight = metric("weight", "Its weight, and the part of it that it gets now");
    this.latency = metric("first byte", "Mean time to the first byte of its answers");
    this.spark = new Sparkline();
    this.manage = el("button", { type: "button", class: "quiet" }, "Manage", el("span", { class: "hidden" }));
    this.manage.addEventListener("click", () => manage(this.id, this.manage));
    this.node = el(
      "li",
      { class: "backend", "data-backend": id },
      el("div", { class: "who" }, el("h4", {}, this.name), this.url),
      el("p", { class: "is" }, this.sign, this.word),
      this.reason,
      el(
        "dl",
        { class: "metrics" },
        this.rate.node,
        this.latency.node,
        this.active.node,
        this.failures.node,
        this.weight.node,
      ),
      this.spark.node,
      this.manage,
    );
  }

  draw(backend) {
    const tone = toneOf(backend);
    if (this.#states !== `${backend.state}|${backend.weight}`) {
      this.#states = `${backend.state}|${backend.weight}`;
      this.node.dataset.tone = tone;
      this.node.dataset.state = backend.state;
      this.sign.replaceChildren(icon(backend.state));
    }
    setText(
      this.word,
      backend.state === "up" && backend.weight === 0
        ? "Bound sessions only"
        : backend.state === "up" && backend.part < 1
          ? "Starting slowly"
          : WORDS[backend.state],
    );
    setText(this.name, backend.name);
    setText(this.url, backend.url === backend.name ? "" : backend.url.replace(/^http:\/\//, ""));
    // Of what simply works the reason is no news.
    setText(this.reason, tone === "ok" ? "" : [backend.reason, ...backend.more].join("; "));
    setText(this.manage.lastChild, ` ${backend.name}`);
    const [perSecond, failing, active, latency] = backend.numbers;
    setText(this.rate.number, rate(perSecond));
    setText(this.failures.number, rate(failing));
    this.failures.node.classList.toggle("hot", failing > 0);
    setText(this.active.number, count(active));
    setText(this.weight.number, count(backend.weight));
    setText(this.weight.unit, backend.part < 1 ? ` × ${backend.part}` : "");
    const [number, unit] = duration(latency);
    setText(this.latency.number, number);
    setText(this.latency.unit, unit && ` ${unit}`);
    if (this.#pointed !== backend.pointed) {
      this.#pointed = backend.pointed;
      this.spark.draw(backend.points, durationText);
    }
  }
}

class PoolView {
  constructor(name, manage) {
    this.manage = manage;
    this.limit = PAGE;
    this.views = new Map();
    this.title = el("h3", { text: name });
    this.strategy = el("span", { class: "chip" });
    this.up = el("span", { class: "up" });
    this.stats = el("span", { class: "stats" });
    this.list = el("ul", { class: "backends" });
    this.more = el("button", { type: "button", class: "quiet", hidden: true });
    this.more.addEventListener("click", () => {
      this.limit += PAGE;
      this.redraw();
    });
    this.nothing = el("p", { class: "none", hidden: true });
    this.node = el(
      "details",
      { class: "pool", "data-pool": name },
      el("summary", {}, this.title, this.strategy, this.up, this.stats),
      this.list,
      this.nothing,
      this.more,
    );
  }

  draw(pool, words) {
    this.redraw = () => this.draw(pool, words);
    const [perSecond, p50, p95, p99, waiting, , panic] = pool.numbers;
    let up = 0;
    let active = 0;
    for (const member of pool.members) {
      up += member.state === "up" ? 1 : 0;
      active += member.numbers[2];
    }
    setText(this.strategy, pool.strategy + (pool.changed.includes("strategy") ? " (changed)" : ""));
    setText(this.up, `${up} of ${pool.members.length} up${panic ? ", panic" : ""}`);
    this.node.dataset.tone = !up || panic ? "bad" : up < pool.members.length ? "warn" : "ok";
    const parts = [
      `${rate(perSecond)}/s`,
      ...(p50 === null ? [] : [`p50 ${durationText(p50)}`, `p95 ${durationText(p95)}`, `p99 ${durationText(p99)}`]),
      `${count(active)} in flight`,
      ...(waiting ? [`${count(waiting)} waiting`] : []),
    ];
    if (this.stats.children.length !== parts.length) this.stats.replaceChildren(...parts.map(() => el("span")));
    parts.forEach((part, index) => setText(this.stats.children[index], part));
    if (!this.node.open) return;

    const matching = words
      ? pool.members.filter((member) => words.every((word) => text(member).includes(word)))
      : pool.members;
    const order = { bad: 0, warn: 1, off: 2, ok: 3 };
    // Stable: among those in the same way the configuration's order stays, so nothing jumps but what has changed.
    const sorted =
      matching.length > CARDS ? [...matching].sort((a, b) => order[toneOf(a)] - order[toneOf(b)]) : matching;
    const shown = sorted.slice(0, this.limit);
    this.list.classList.toggle("rows", pool.members.length > CARDS);
    const views = new Map();
    for (const member of shown) {
      const view = this.views.get(member.id) ?? new BackendView(member.id, this.manage);
      view.draw(member);
      views.set(member.id, view);
    }
    this.views = views;
    arrange(
      this.list,
      [...views.values()].map((view) => view.node),
    );
    const left = sorted.length - shown.length;
    this.more.hidden = left <= 0;
    setText(this.more, `Show ${Math.min(PAGE, left)} more, of ${count(left)}`);
    this.nothing.hidden = shown.length > 0;
    setText(this.nothing, pool.members.length ? "No backend matches the filter." : "This pool has no backends.");
  }
}

const text = (backend) =>
  `${backend.pool} ${backend.name} ${backend.url} ${WORDS[backend.state]} ${backend.state}`.toLowerCase();

export class Pools {
  #views = new Map();
  #words = null;

  constructor(manage) {
    this.manage = manage;
    this.list = byId("pool-list");
    byId("filter").addEventListener("input", (event) => {
      const words = event.target.value.toLowerCase().split(/\s+/).filter(Boolean);
      this.#words = words.length ? words : null;
      for (const view of this.#views.values()) view.limit = PAGE;
      if (this.model) this.draw(this.model);
    });
  }

  draw(model) {
    this.model = model;
    const views = new Map();
    for (const [name, pool] of model.pools) {
      let view = this.#views.get(name);
      if (!view) {
        view = new PoolView(name, this.manage);
        view.node.open = model.pools.size <= OPEN || pool.members.some((member) => toneOf(member) === "bad");
        view.node.addEventListener(
          "toggle",
          () => this.model && view.draw(this.model.pools.get(name) ?? pool, this.#words),
        );
      }
      const some =
        !this.#words || pool.members.some((member) => this.#words.every((word) => text(member).includes(word)));
      view.node.hidden = !some;
      if (some) view.draw(pool, this.#words);
      views.set(name, view);
    }
    this.#views = views;
    arrange(
      this.list,
      [...views.values()].map((view) => view.node),
    );
    setAttribute(this.list, "data-pools", views.size);
  }
}
