// What the page knows, and the only place where it grows: every list here has a limit. No DOM.

export const LIMITS = { seconds: 900, minutes: 1440, points: 60, events: 500 };

export const WORDS = {
  up: "Up",
  down: "Down",
  unchecked: "Not checked yet",
  disabled: "Disabled",
  draining: "Draining",
  drained: "Drained",
  ejected: "Ejected",
  half_open: "Probing",
};

/** How bad a state is: "bad" is a fault, "warn" will pass or is on its way out, "off" is what somebody wanted. */
export function toneOf(backend) {
  if (backend.state === "down" || backend.state === "ejected") return "bad";
  if (backend.state === "disabled" || backend.state === "drained") return "off";
  return backend.state === "up" && backend.weight > 0 ? "ok" : "warn";
}

export class Model {
  constructor() {
    this.run = "";
    this.seconds = [];
    this.minutes = [];
    this.events = [];
    this.backends = new Map();
    this.pools = new Map();
    this.routes = [];
    this.workers = [];
    this.listeners = [];
    this.certificates = [];
    this.totals = null;
    this.recent = [null, null, null];
    this.about = null;
    this.clockOffset = 0;
    this.heard = 0;
    this.layout = 0; // grows when pools, backends or routes are others
    this.states = 0; // ... when a backend's state is
    this.pointed = 0; // ... when a backend has a new point
    this.happened = 0; // ... when there is a new event
  }

  /** What the balancer need not say again after an interruption. */
  get seen() {
    const last = this.seconds.at(-1);
    const ours = this.events.find((event) => event.run === this.run);
    return { run: this.run, after: last ? last[0] : 0, event: ours ? ours.number : 0 };
  }

  /** Milliseconds since 1970 by the balancer's clock. */
  get now() {
    return Date.now() + this.clockOffset;
  }

  apply(name, message) {
    this.heard = Date.now();
    this.clockOffset = message.now - this.heard;
    if (name === "state") this.#everything(message);
    else if (name === "tick" || name === "change") this.#changes(message);
  }

  #everything(message) {
    const again = this.run === message.run;
    if (this.run && !again) {
      // Its events begin anew; ours of the run before stay, behind a line.
      this.#happen(
        [
          {
            number: 0,
            time: message.started,
            pool: "",
            backend: "",
            what: "restarted",
            reason: `Headgate ${message.version}, process ${message.pid}`,
          },
        ],
        message.run,
      );
    }
    this.run = message.run;
    const { version, configFile, pid, started, ready } = message;
    this.about = { version, configFile, pid, started, ready };
    if (message.seconds) append(this.seconds, message.seconds, LIMITS.seconds);
    if (message.minutes) append(this.minutes, message.minutes, LIMITS.minutes);
    const old = this.backends;
    this.backends = new Map();
    for (const one of message.backends) {
      const before = again ? old.get(one.state.id) : undefined;
      const points = one.points ?? before?.points ?? [];
      this.backends.set(one.state.id, {
        ...one.state,
        numbers: one.numbers,
        points: points.slice(-LIMITS.points),
        pointed: this.pointed,
      });
    }
    this.pools = new Map(
      message.pools.map((pool) => [pool.name, { ...pool, numbers: [0, null, null, null, 0, 0, false], members: [] }]),
    );
    for (const backend of this.backends.values()) this.pools.get(backend.pool)?.members.push(backend);
    this.#poolNumbers(message.poolNumbers);
    this.routes = message.routes.map((route) => ({ ...route, numbers: null }));
    this.#routeNumbers(message.routeNumbers ?? []);
    this.workers = message.workers;
    this.listeners = message.listeners;
    this.certificates = message.certificates ?? [];
    this.totals = message.totals;
    this.recent = message.recent;
    this.#happen(message.events, message.run);
    this.layout += 1;
    this.states += 1;
    this.pointed += 1;
  }

  #changes(message) {
    if (message.row) append(this.seconds, [message.row], LIMITS.seconds);
    if (message.minute) append(this.minutes, [message.minute], LIMITS.minutes);
    if (message.recent) this.recent = message.recent;
    if (message.totals) this.totals = message.totals;
    if (message.workers) this.workers = message.workers;
    if (message.listeners) this.listeners = message.listeners;
    if (message.certificates) this.certificates = message.certificates;
    if (this.about && message.row) this.about.ready = message.ready ?? true;
    this.#poolNumbers(message.pools ?? []);
    this.#routeNumbers(message.routes ?? []);
    for (const [id, ...numbers] of message.numbers ?? []) {
      const backend = this.backends.get(id);
      if (backend) backend.numbers = numbers;
    }
    for (const [id, ...point] of message.points ?? []) {
      const backend = this.backends.get(id);
      if (!backend) continue;
      backend.points.push(point);
      if (backend.points.length > LIMITS.points) backend.points.shift();
      this.pointed += 1;
      backend.pointed = this.pointed;
    }
    for (const state of message.states ?? []) {
      const backend = this.backends.get(state.id);
      if (!backend) continue;
      Object.assign(backend, state);
      this.states += 1;
    }
    this.#happen(message.events ?? [], this.run);
  }

  #poolNumbers(rows) {
    for (const [name, ...numbers] of rows) {
      const pool = this.pools.get(name);
      if (pool) pool.numbers = numbers;
    }
  }

  #routeNumbers(rows) {
    for (const [index, ...numbers] of rows) if (this.routes[index]) this.routes[index].numbers = numbers;
  }

  /** Newest first. What was told twice is kept once. */
  #happen(events, run) {
    const known = this.events.find((event) => event.run === run)?.number ?? -1;
    const fresh = events.filter((event) => event.number > known);
    if (!fresh.length) return;
    this.events.unshift(...fresh.map((event) => ({ ...event, run, key: `${run} ${event.number}` })).reverse());
    this.events.length = Math.min(this.events.length, LIMITS.events);
    this.happened += 1;
  }

  get up() {
    let found = 0;
    for (const backend of this.backends.values()) found += backend.state === "up" ? 1 : 0;
    return found;
  }
}

/**
 * Fewer rows, each the mean of those within `step` seconds: of 900 in 400 pixels one sees only the noise. Percentiles are
 * weighted by their requests; of requests in flight the highest is kept.
 */
export function thinned(rows, step) {
  const found = [];
  let at = null;
  let group = [];
  const close = () => {
    if (!group.length) return;
    const mean = (column) => group.reduce((sum, row) => sum + row[column], 0) / group.length;
    const percentile = (column) => {
      let sum = 0;
      let weight = 0;
      for (const row of group) {
        if (row[column] === null) continue;
        const share = Math.max(row[1], 0.01);
        sum += row[column] * share;
        weight += share;
      }
      return weight ? sum / weight : null;
    };
    const most = (column) => group.reduce((found, row) => Math.max(found, row[column]), 0);
    found.push([at, mean(1), mean(2), percentile(3), percentile(4), percentile(5), most(6), most(7)]);
  };
  for (const row of rows) {
    const start = Math.floor(row[0] / step) * step;
    if (start !== at) {
      close();
      at = start;
      group = [];
    }
    group.push(row);
  }
  close();
  return found;
}

/** Rows that are newer than the last, and no more than `limit` of them all. */
function append(rows, more, limit) {
  const last = rows.length ? rows.at(-1)[0] : -1;
  for (const row of more) if (row[0] > last) rows.push(row);
  if (rows.length > limit) rows.splice(0, rows.length - limit);
}
