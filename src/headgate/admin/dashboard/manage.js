// The dialog of one backend: what it is, and what can be done with it. What would leave a pool without anybody is asked
// for twice.

import { ask, backendPath } from "./api.js";
import { age, byId, bytes, count, describe, durationText, el, icon, setText, shortTime } from "./dom.js";
import { WORDS, toneOf } from "./model.js";

export class Manage {
  #id = null;
  #details = null;
  #opener = null;
  #busy = false;
  #pending = null;

  constructor(model) {
    this.model = model;
    this.dialog = byId("manage");
    byId("manage-close").addEventListener("click", () => this.dialog.close());
    this.dialog.addEventListener("close", () => {
      this.#id = null;
      if (this.#opener?.isConnected) this.#opener.focus();
    });
    this.dialog.addEventListener("click", (event) => {
      if (event.target === this.dialog) this.dialog.close(); // beside it
    });
    byId("drain-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const seconds = byId("deadline").value;
      this.#do("POST", "drain", seconds ? { deadline: Number(seconds) } : undefined, { leaves: true, verb: "Drain" });
    });
    byId("weight-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const weight = Number(byId("weight").value);
      this.#do("PUT", "weight", { weight }, { leaves: weight === 0, verb: "Set weight 0" });
    });
    byId("disable").addEventListener("click", () =>
      this.#do("POST", "disable", undefined, { leaves: true, verb: "Disable" }),
    );
    byId("enable").addEventListener("click", () => this.#do("POST", "enable", undefined, { leaves: false }));
    byId("sure-yes").addEventListener("click", () => {
      const act = this.#pending;
      this.#unsure();
      act?.();
    });
    byId("sure-no").addEventListener("click", () => {
      this.#unsure();
      byId("manage-title").focus();
    });
  }

  open(id, opener) {
    const backend = this.model.backends.get(id);
    if (!backend) return;
    this.#id = id;
    this.#opener = opener;
    this.#details = null;
    this.#unsure();
    setText(byId("manage-done"), "");
    setText(byId("manage-error"), "");
    byId("deadline").value = "";
    byId("weight").value = backend.weight;
    this.draw();
    this.dialog.showModal();
    byId("manage-title").focus();
    this.#look();
  }

  draw() {
    if (this.#id === null) return;
    const backend = this.model.backends.get(this.#id);
    if (!backend) {
      setText(byId("manage-error"), "This backend is gone.");
      for (const button of this.dialog.querySelectorAll(".controls button")) button.disabled = true;
      return;
    }
    setText(byId("manage-title"), `${backend.pool} / ${backend.name}`);
    const state = byId("manage-state");
    const shown = `${WORDS[backend.state]} since ${shortTime(backend.since)} (${age(this.model.now - backend.since)})`;
    state.dataset.tone = toneOf(backend);
    if (state.dataset.shown !== backend.state) {
      state.dataset.shown = backend.state;
      state.replaceChildren(icon(backend.state), el("span"));
    }
    setText(state.lastChild, shown);
    const reasons = [backend.reason, ...backend.more].filter(Boolean);
    const list = byId("manage-reasons");
    if (list.dataset.shown !== reasons.join("\n")) {
      list.dataset.shown = reasons.join("\n");
      list.replaceChildren(...reasons.map((reason) => el("li", { text: reason })));
    }
    const [, , active, latency, requests, failed] = backend.numbers;
    const facts = [
      ["Address", backend.url],
      [
        "Weight",
        backend.part < 1
          ? `${backend.weight}, of which it gets ${Math.round(backend.part * 100)} % now`
          : String(backend.weight),
      ],
      ["Requests", `${count(requests)}, of which ${count(failed)} failed`],
      ["In flight", count(active)],
      ["First byte", durationText(latency)],
    ];
    const more = this.#details;
    if (more) {
      facts.push(
        ["Leads to", more.addresses.join(", ") || "nowhere yet"],
        ["Connections", `${count(more.openConnections)}, of which ${count(more.idleConnections)} idle`],
        [
          "Answers",
          Object.entries(more.statuses)
            .filter(([, number]) => number)
            .map(([name, number]) => `${name} ${count(number)}`)
            .join(", ") || "none",
        ],
        ["Bodies", `${bytes(more.bytesReceived)} from it, ${bytes(more.bytesSent)} to it`],
        ["Not in the file", more.changed.join(", ") || "nothing"],
      );
    }
    describe(byId("manage-facts"), facts);
    const away = backend.state === "disabled" || backend.state === "draining" || backend.state === "drained";
    byId("enable").hidden = !away;
    byId("disable").hidden = backend.state === "disabled";
    byId("drain-form").hidden = backend.state === "disabled";
    for (const button of this.dialog.querySelectorAll(".controls button")) button.disabled = this.#busy;
  }

  async #look() {
    const id = this.#id;
    const backend = this.model.backends.get(id);
    try {
      const details = await ask("GET", backendPath(backend));
      if (this.#id === id) {
        this.#details = details;
        this.draw();
      }
    } catch (error) {
      if (this.#id === id) setText(byId("manage-error"), error.message);
    }
  }

  #unsure() {
    this.#pending = null;
    byId("sure").hidden = true;
    setText(byId("sure-text"), "");
  }

  /** leaves: it would get nothing new afterwards. */
  #do(method, what, body, { leaves, verb }, sure = false) {
    const backend = this.model.backends.get(this.#id);
    if (!backend || this.#busy) return;
    setText(byId("manage-error"), "");
    setText(byId("manage-done"), "");
    const others = this.model.pools
      .get(backend.pool)
      .members.filter((member) => member !== backend && member.state === "up" && member.weight > 0);
    if (leaves && !sure && !others.length) {
      this.#pending = () => this.#do(method, what, body, { leaves, verb }, true);
      byId("sure").hidden = false;
      setText(
        byId("sure-text"),
        `Nobody else in pool ${backend.pool} takes requests: without ${backend.name}, clients get 503.`,
      );
      setText(byId("sure-yes"), `${verb} all the same`);
      byId("sure-yes").focus();
      return;
    }
    this.#send(backend, method, what, body);
  }

  async #send(backend, method, what, body) {
    this.#busy = true;
    this.draw();
    try {
      const done = await ask(method, `${backendPath(backend)}/${what}`, body);
      this.#details = done.backend;
      const said = {
        drain: "It is being drained.",
        disable: "It is disabled.",
        enable: "It is enabled.",
        weight: `Its weight is ${body?.weight}.`,
      }[what];
      setText(
        byId("manage-done"),
        [said, done.applied ? "Every worker runs it." : "", done.warning && `${done.warning}.`]
          .filter(Boolean)
          .join(" "),
      );
    } catch (error) {
      setText(byId("manage-error"), [error.message, ...(error.problems ?? [])].join(" "));
    }
    this.#busy = false;
    this.draw();
    // The button that was pressed may be gone now; the keyboard must not be lost with it.
    if (!this.dialog.contains(document.activeElement) || document.activeElement === document.body)
      byId("manage-title").focus();
  }
}
