// What happened, newest first.

import { arrange, byId, dayOf, el, icon, timeOf } from "./dom.js";

const PAGE = 30;
const TOGETHER_MS = 2000; // what happens to many at once, in the same way, is one line
const NAMES = 3;
const HEALTH = new Set([
  "up",
  "down",
  "ejected",
  "half-open",
  "readmitted",
  "failing",
  "gets less",
  "starts slowly",
  "has its share",
  "nothing routable",
  "routable again",
  "panic",
  "no panic any more",
  "worker died",
]);
const LOOK = {
  up: ["up", "ok"],
  readmitted: ["up", "ok"],
  "no panic any more": ["up", "ok"],
  "routable again": ["up", "ok"],
  "has its share": ["up", "ok"],
  "nothing routable": ["down", "bad"],
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
    const wanted =
      kind === "all" ? model.events : model.events.filter((event) => HEALTH.has(event.what) === (kind === "health"));
    const groups = together(wanted);
    const nodes = new Map();
    for (const group of groups.slice(0, this.#limit)) {
      const key = `${group[0].key} ${group.length}`;
      nodes.set(key, this.#nodes.get(key) ?? this.#make(group));
    }
    this.#nodes = nodes;
    arrange(this.list, nodes.values());
    this.older.hidden = groups.length <= this.#limit;
    byId("no-events").hidden = wanted.length > 0;
  }

  #make(group) {
    const event = group[0];
    const [sign, tone] = LOOK[event.what] ?? ["note", "off"];
    const today = dayOf(event.time) === dayOf(Date.now());
    const moment = el("time", {
      datetime: new Date(event.time).toISOString(),
      title: new Date(event.time).toISOString(),
      text: (today ? "" : `${dayOf(event.time)} `) + timeOf(event.time),
    });
    const who = group
      .slice(-NAMES)
      .reverse()
      .map((one) => (one.backend ? `${one.pool}/${one.backend}` : one.pool))
      .filter(Boolean)
      .join(", ");
    const line = el("p", { class: "what" }, icon(sign), el("b", { text: event.what }));
    if (who) line.append(" ", el("span", { class: "name", text: who }));
    if (group.length > NAMES) line.append(` and ${group.length - NAMES} more`);
    return el(
      "li",
      { "data-tone": tone, "data-what": event.what },
      moment,
      line,
      ...(event.reason ? [el("p", { class: "reason", text: event.reason })] : []),
    );
  }
}

/** Neighbours that say the same of different backends, at the same time. */
function together(events) {
  const groups = [];
  for (const event of events) {
    const last = groups.at(-1);
    const same =
      last &&
      event.backend &&
      last[0].backend &&
      last[0].run === event.run &&
      last[0].what === event.what &&
      last[0].reason === event.reason &&
      last[0].time - event.time <= TOGETHER_MS;
    if (same) last.push(event);
    else groups.push([event]);
  }
  return groups;
}
