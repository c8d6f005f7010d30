// What the page says: pure, from `/status` to words.

/** Marks, so that colour is never alone. */
export const STATES = {
  up: ["●", "up", "good"],
  avoided: ["▲", "avoided", "bad"],
  trial_due: ["◐", "trial due", "wait"],
  trial: ["◐", "on trial", "wait"],
  down: ["■", "down", "bad"],
  draining: ["▽", "draining", "wait"],
  drained: ["▽", "drained", "wait"],
};

export const state = (endpoint) => STATES[endpoint.state] ?? ["?", endpoint.state, "wait"];

/** 1234567 as "1,234,567", and rates with a digit while they are small. */
export function count(value) {
  return value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
}

export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (bytes >= 1024 && at + 1 < units.length) {
    bytes /= 1024;
    at += 1;
  }
  return `${bytes.toLocaleString("en", { maximumFractionDigits: at && bytes < 10 ? 1 : 0 })} ${units[at]}`;
}

/** Seconds as the two largest units. */
export function span(seconds) {
  let left = Math.max(0, Math.floor(seconds));
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    if (left >= length || (unit === "s" && parts.length === 0)) parts.push(`${Math.floor(left / length)} ${unit}`);
    left %= length;
  }
  return parts.slice(0, 2).join(" ");
}

/** Seconds from `then` to `now`, both the gateway's clock. */
export const since = (then, now) => (Date.parse(now) - Date.parse(then)) / 1000;

export function ago(then, now) {
  const seconds = since(then, now);
  return seconds < 1 ? "now" : `${span(seconds)} ago`;
}

/** An error of an endpoint, without its name before it: that stands there already. */
export function cause(endpoint, words) {
  const before = `endpoint ${endpoint.name}: `;
  return words?.startsWith(before) ? words.slice(before.length) : (words ?? "");
}

/** The time of day here; with the day where that is not today. */
export function clock(at) {
  const date = new Date(at);
  const time = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
  return date.toDateString() === new Date().toDateString() ? time : `${date.toLocaleDateString([], { day: "numeric", month: "short" })}, ${time}`;
}

export const plural = (number, word) => `${count(number)} ${word}${number === 1 ? "" : "s"}`;

/** A line through `values`, and the area below it, in a box of 100 by 30. */
export function spark(values) {
  const top = Math.max(1, ...values) * 1.05;
  const at = (value, place) => `${((place / Math.max(1, values.length - 1)) * 100).toFixed(2)},${(29 - (value / top) * 27).toFixed(2)}`;
  const line = values.length < 2 ? "" : `M${values.map(at).join(" L")}`;
  return { line, area: line && `${line} L100,30 L0,30 Z` };
}

/** The trouble with an endpoint; `null` while it is up. */
function troubleAt(upstream, endpoint, { now }) {
  const [, words, level] = state(endpoint);
  if (["up", "draining", "drained"].includes(endpoint.state)) return null;
  const byProbe = endpoint.state === "down";
  const rest = endpoint.avoided_seconds ? `Nobody is sent there for ${span(endpoint.avoided_seconds)}; then one session tries it.`
    : byProbe ? "Nobody is sent there until its probes pass." : "The next session that tries it decides.";
  return {
    key: `endpoint ${upstream.name} ${endpoint.name}`,
    level: upstream.available ? level : "bad",
    title: `${upstream.name}: ${endpoint.name} is ${words}`,
    when: endpoint.since ? `since ${clock(endpoint.since)}, ${span(since(endpoint.since, now))}` : "",
    cause: cause(endpoint, byProbe ? endpoint.probe?.error : endpoint.error?.words),
    todo: `Look at that broker. ${rest}`,
  };
}

/** All that a person should know of, the worst first. */
export function troubles(status) {
  const { now } = status;
  const list = [];
  const add = (key, level, title, more) => list.push({ key, level, title, when: "", cause: "", todo: "", ...more });
  if (status.stage === "draining") {
    const left = status.left == null ? "" : `${plural(status.left, "session")} left. `;
    add("stage", "wait", "The gateway drains", { todo: `${left}It takes nobody new.` });
  }
  if (status.stage === "drained") {
    add("stage", "wait", "The gateway is drained", { todo: "It waits to be stopped, or to be put back to work." });
  }
  for (const upstream of status.upstreams) {
    if (!upstream.available) {
      add(`upstream ${upstream.name}`, "bad", `${upstream.name}: no endpoint is up`, {
        todo: `Clients that come are turned away.${upstream.required ? " /ready says no." : ""} Bring one of its brokers back.`,
      });
    }
    for (const endpoint of upstream.endpoints) {
      const trouble = troubleAt(upstream, endpoint, status);
      if (trouble) list.push(trouble);
    }
  }
  if (status.reload && !status.reload.applied) {
    add("reload", "bad", "The last reload was refused", {
      when: `at ${clock(status.reload.at)}, ${ago(status.reload.at, now)}`,
      cause: status.reload.mistakes.join("\n"),
      todo: "The configuration from before works on. Correct the file; a saved change is taken up by itself.",
    });
  }
  if (status.upgrade?.error) {
    add("upgrade", "wait", "The last upgrade failed", {
      when: `at ${clock(status.upgrade.at)}, ${ago(status.upgrade.at, now)}`,
      cause: status.upgrade.error,
      todo: "This process works on. Mend the cause and upgrade again.",
    });
  }
  for (const it of status.certificates.filter(({ complaint }) => complaint)) {
    add(`certificate ${it.kind} ${it.name} ${it.chain}`, it.days_left < 3 ? "bad" : "wait", `Certificate of ${it.kind} ${it.name}`, { cause: it.complaint, todo: "A renewed file is taken up by itself." });
  }
  const { held, limit } = status.connections;
  if (held >= limit * 0.9) {
    add("connections", held >= limit ? "bad" : "wait", `${count(held)} of ${count(limit)} connections`, { todo: "Beyond that clients are turned away. Raise limits.connections, or add a gateway." });
  }
  const { descriptors, descriptors_limit: most } = status.process;
  if (descriptors && most && descriptors >= most * 0.85) {
    add("descriptors", "bad", `${count(descriptors)} of ${count(most)} open files`, { todo: "Raise NOFILE and restart." });
  }
  const turnedAway = status.rejections.filter(({ reason, minute }) => minute && (reason.startsWith("full") || reason === "no_endpoint"));
  for (const { reason, minute } of turnedAway) {
    add(`rejection ${reason}`, "wait", `${plural(minute, "client")} turned away in the last minute: ${reason}`, { todo: "The manual says what each reason asks for." });
  }
  for (const words of status.warnings) add(`warning ${words}`, "wait", "The configuration warns", { cause: words });
  return list.sort((a, b) => (a.level === "bad" ? 0 : 1) - (b.level === "bad" ? 0 : 1));
}

/** What stands above all. */
export function verdict(status, list) {
  if (status.stage === "starting") return ["wait", "…", "Starting"];
  const bad = list.filter(({ level }) => level === "bad").length;
  if (bad) return ["bad", "✖", bad === 1 ? "One thing is broken" : `${bad} things are broken`];
  if (status.stage === "draining") return ["wait", "▽", "Draining"];
  if (status.stage === "drained") return ["wait", "▽", "Drained"];
  if (list.length) return ["wait", "▲", list.length === 1 ? "It works; one thing to look at" : `It works; ${list.length} things to look at`];
  return ["good", "✔", "All is well"];
}
