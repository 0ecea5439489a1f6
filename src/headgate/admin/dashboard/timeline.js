// What happened, newest first.

import { arrange, byId, dayOf, el, icon, timeOf } from "./dom.js";

const PAGE = 60;
const HEALTH = new Set(["up", "down", "ejected", "half-open", "readmitted", "failing", "gets less", "panic", "no panic any more", "worker died"]);
const LOOK = {
  up: ["up", "ok"],
  readmitted: ["up", "ok"],
  "no panic any more": ["up", "ok"],
  down: ["down", "bad"],
  ejected: ["ejected", "bad"],
  panic: ["warning", "bad"],
  failing: ["warning", "warn"],
  "worker died": ["warning", "bad"],
  "reload refused": ["warning", "bad"],
  "upgrade refused": ["warning", "bad"],
  "half-open": ["half_open", "warn"],
  "gets less": ["draining", "warn"],
  draining: ["draining", "warn"],
  drained: ["drained", "off"],
  disabled: ["disabled", "off"],
};

export class Timeline {
  #limit = PAGE;
  #nodes = new Map();

  constructor() {
    this.list = byId("events");
    this.older = byId("older");
    this.kinds = byId("kinds");
    this.kinds.addEventListener("change", () => {
      this.#limit = PAGE;
      this.draw(this.model);
    });
    this.older.addEventListener("click", () => {
      this.#limit += PAGE;
      this.draw(this.model);
    });
  }

  draw(model) {
    this.model = model;
    if (!model) return;
    const kind = this.kinds.value;
    const wanted = kind === "all" ? model.events : model.events.filter((event) => HEALTH.has(event.what) === (kind === "health"));
    const nodes = new Map();
    for (const event of wanted.slice(0, this.#limit)) nodes.set(event.key, this.#nodes.get(event.key) ?? this.#make(event));
    this.#nodes = nodes;
    arrange(this.list, nodes.values());
    this.older.hidden = wanted.length <= this.#limit;
    byId("no-events").hidden = wanted.length > 0;
  }

  #make(event) {
    const [sign, tone] = LOOK[event.what] ?? ["note", "off"];
    const today = dayOf(event.time) === dayOf(Date.now());
    const moment = el("time", { datetime: new Date(event.time).toISOString(), title: new Date(event.time).toISOString(), text: (today ? "" : `${dayOf(event.time)} `) + timeOf(event.time) });
    const who = event.backend ? `${event.pool}/${event.backend}` : event.pool;
    const line = el("p", { class: "what" }, icon(sign), el("b", { text: event.what }));
    if (who) line.append(" ", el("span", { class: "name", text: who }));
    return el("li", { "data-tone": tone, "data-what": event.what }, moment, line, ...(event.reason ? [el("p", { class: "reason", text: event.reason })] : []));
  }
}
