// The connection: server-sent events read with fetch, since EventSource sends no Authorization header. It is opened
// again after whatever ends it, with pauses that grow; while the page is hidden for long it is closed, since a browser
// keeps six connections to one server in all its tabs.

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 10000;
// The balancer says something every second.
const SILENCE_MS = 8000;
const HIDDEN_MS = 60000;

/** Splits a stream of text into server-sent events (HTML standard, 9.2.6), as far as ours go. */
export class Parser {
  #rest = "";

  *feed(text) {
    this.#rest += text;
    let end;
    while ((end = this.#rest.indexOf("\n\n")) >= 0) {
      const block = this.#rest.slice(0, end);
      this.#rest = this.#rest.slice(end + 2);
      let name = "message";
      const data = [];
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data.push(line.slice(6));
      }
      if (data.length) yield [name, JSON.parse(data.join("\n"))];
    }
  }
}

export class Stream {
  #controller = null;
  #timer = 0;
  #pause = FIRST_PAUSE_MS;
  #watchdog = 0;
  #hidden = 0;
  #stopped = true;

  /**
   * token(): the token, or "". seen(): what need not be told again. on.message(name, data), on.state(word, detail):
   * "connecting", "live", "waiting" (detail: until when, why), "refused" (detail: status, reason), "asleep".
   */
  constructor(token, seen, on) {
    this.token = token;
    this.seen = seen;
    this.on = on;
    document.addEventListener("visibilitychange", () => this.#visibility());
    window.addEventListener("online", () => this.retry());
  }

  start() {
    this.#stopped = false;
    this.#connect();
  }

  stop() {
    this.#stopped = true;
    this.#end();
  }

  /** Now, not after the pause. */
  retry() {
    if (this.#stopped) return;
    this.#pause = FIRST_PAUSE_MS;
    this.#end();
    this.#connect();
  }

  #end() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    this.#controller?.abort();
    this.#controller = null;
  }

  #visibility() {
    clearTimeout(this.#hidden);
    if (document.hidden) {
      this.#hidden = setTimeout(() => {
        if (this.#stopped) return;
        this.#end();
        this.on.state("asleep");
      }, HIDDEN_MS);
    } else if (!this.#stopped && this.#controller === null) this.retry();
  }

  async #connect() {
    const controller = new AbortController();
    this.#controller = controller;
    let why = "the connection ended";
    this.on.state("connecting");
    this.#listen(controller);
    try {
      const { run, after, event } = this.seen();
      const query = new URLSearchParams({ run, after, event });
      const token = this.token();
      const response = await fetch(`/stream?${query}`, {
        headers: token ? { Authorization: `Bearer ${token}` } : {},
        signal: controller.signal,
        cache: "no-store",
      });
      if (response.status !== 200) {
        const error = await response.json().catch(() => ({ error: "", reason: response.statusText }));
        if (response.status === 401 || response.status === 403 || response.status === 421) {
          this.stop();
          this.on.state("refused", { status: response.status, word: error.error, reason: error.reason });
          return;
        }
        throw new Error(`${response.status}: ${error.reason}`);
      }
      const parser = new Parser();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        this.#listen(controller);
        for (const [name, data] of parser.feed(value)) {
          this.#pause = FIRST_PAUSE_MS;
          this.on.message(name, data);
          this.on.state("live");
        }
      }
    } catch (error) {
      why = controller.silent
        ? "the balancer has fallen silent"
        : error instanceof TypeError
          ? "it cannot be reached"
          : error.message;
    }
    if (this.#controller !== controller) return; // ended by us
    this.#controller = null;
    clearTimeout(this.#watchdog);
    if (this.#stopped) return;
    const wait = this.#pause * (0.75 + Math.random() / 2);
    this.#pause = Math.min(LONGEST_PAUSE_MS, this.#pause * 2);
    this.on.state("waiting", { until: Date.now() + wait, why });
    this.#timer = setTimeout(() => this.#connect(), wait);
  }

  #listen(controller) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      controller.silent = true;
      controller.abort();
    }, SILENCE_MS);
  }
}
