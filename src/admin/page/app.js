// Asks `/status` each second and shows it; asks before it tells the gateway to do anything.

import { ago, cause, clock, count, plural, size, since, span, spark, state, troubles, verdict } from "./show.js";

const EVERY = 1000;
const PATIENCE = 5000;
const KEY = "brokergate-token";

const byId = (id) => document.getElementById(id);
let last = null;
let heard = 0;
let failedSince = 0;
let timer = 0;
let isAsking = false;

// --- Elements -----------------------------------------------------------------------------------------

/** Texts come from the gateway: they are only ever text. Unchanged ones are left alone. */
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
  return node;
}

function make(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

/** Lets the children of `parent` follow `items`, each by its key: what stays keeps its focus. */
function follow(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, place) => {
    const key = keyOf(item);
    let node = known.get(key);
    known.delete(key);
    if (!node) {
      node = create(item);
      node.dataset.key = key;
    }
    update(node, item);
    if (parent.children[place] !== node) parent.insertBefore(node, parent.children[place] ?? null);
  });
  while (parent.children.length > items.length) parent.lastElementChild.remove();
}

/** A row whose cells are `[class, label]`. */
function row(cells) {
  const node = make("tr");
  node.setAttribute("role", "row");
  for (const [className, label] of cells) {
    const cell = make("td", className);
    cell.setAttribute("role", "cell");
    if (label) cell.dataset.label = label;
    node.append(cell);
  }
  return node;
}

function button(words, act) {
  const node = make("button", "", words);
  node.type = "button";
  node.addEventListener("click", act);
  return node;
}

// --- What is shown --------------------------------------------------------------------------------------

function show(status) {
  byId("all").hidden = false;
  byId("login").hidden = true;
  const list = troubles(status);
  const [level, mark, words] = verdict(status, list);
  byId("verdict").dataset.level = level;
  byId("verdict-mark").className = level;
  put(byId("verdict-mark"), mark);
  put(byId("verdict-words"), words);
  document.title = level === "good" ? "brokergate" : `${mark} ${words} · brokergate`;
  const endpoints = status.upstreams.flatMap((upstream) => upstream.endpoints);
  const up = endpoints.filter((endpoint) => endpoint.state === "up").length;
  put(byId("verdict-facts"), `${up} of ${plural(endpoints.length, "endpoint")} up, ${plural(status.sessions.open, "session")}, running for ${span(status.uptime_seconds)}.`);
  put(byId("where"), location.hostname);
  follow(byId("troubles"), list, (it) => it.key, createTrouble, updateTrouble);
  follow(byId("tiles"), tiles(status), (it) => it.title, createTile, updateTile);
  follow(byId("upstreams"), status.upstreams, (it) => it.name, createUpstream, (node, it) => updateUpstream(node, it, status));
  follow(byId("endings"), status.endings, (it) => it.reason, () => row([[""], ["n"], ["n"]]), updateCounts);
  follow(byId("rejections"), status.rejections, (it) => it.reason, () => row([[""], ["n"], ["n"]]), updateCounts);
  follow(byId("certificates"), status.certificates, (it) => `${it.kind} ${it.name} ${it.chain}`, () => row([[""], ["n"]]), updateCertificate);
  follow(byId("gateway"), facts(status), ([name, value]) => `${name}${value === undefined ? "" : "="}`, ([, value]) => make(value === undefined ? "dt" : "dd"), (node, [name, value]) => put(node, value ?? name));
  follow(byId("controls"), controls(status), (it) => it.path, (it) => button(`${it.words}…`, (event) => confirm(event.currentTarget.act)), (node, it) => {
    node.act = it;
  });
}

function createTrouble() {
  return make("li", "trouble", make("span", "sign"), make("span", "", make("strong"), " ", make("span", "quiet")), make("span", "cause"), make("span", "todo"));
}

function updateTrouble(node, { level, title, when, cause, todo }) {
  const [sign, head, why, what] = node.children;
  sign.className = `sign ${level}`;
  put(sign, level === "bad" ? "✖" : "▲");
  put(head.children[0], title);
  put(head.children[1], when);
  put(why, cause).hidden = !cause;
  put(what, todo).hidden = !todo;
}

function tiles({ sessions, rates, history, connections }) {
  return [
    { title: "Sessions", value: count(sessions.open), more: `${count(sessions.opened)} since the start`, values: history.sessions },
    { title: "Connects a second", value: count(rates.connects), more: `${count(connections.held)} of ${count(connections.limit)} connections`, values: history.connects },
    { title: "Messages a second, to brokers", value: count(rates.publish_up), more: `${size(rates.bytes_up)}/s`, values: history.publish_up },
    { title: "Messages a second, to clients", value: count(rates.publish_down), more: `${size(rates.bytes_down)}/s`, values: history.publish_down },
  ];
}

function createTile({ title }) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 30");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  for (const name of ["spark-area", "spark-line"]) {
    const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("class", name);
    svg.append(path);
  }
  return make("div", "tile", make("h2", "", title), make("p", "value"), make("p", "more"), svg);
}

function updateTile(node, { value, more, values }) {
  const [, number, below, svg] = node.children;
  put(number, value);
  put(below, more);
  const { line, area } = spark(values);
  svg.children[0].setAttribute("d", area);
  svg.children[1].setAttribute("d", line);
}

function createUpstream(upstream) {
  const title = make("h2", "", upstream.name);
  const rebalance = {
    path: `/rebalance?upstream=${encodeURIComponent(upstream.name)}`,
    words: "Rebalance",
    title: `Rebalance ${upstream.name}?`,
    effect: "Endpoints that have more sessions than their weight asks for say goodbye to the surplus, one after the other. Those clients connect anew.",
  };
  const control = button("Rebalance…", () => confirm(rebalance));
  control.setAttribute("aria-label", `Rebalance ${upstream.name}`);
  const head = make("div", "head", title, make("span", "quiet"), control);
  const headings = ["Endpoint", "State", "Sessions", "Weight", "Last probe", "Last error"].map((words) => {
    const node = make("th", words === "Sessions" || words === "Weight" ? "n" : "", words);
    node.scope = "col";
    return node;
  });
  const acts = make("th", "", make("span", "unseen", "Actions"));
  acts.scope = "col";
  const table = make("table", "endpoints", make("caption", "unseen", `Endpoints of ${upstream.name}`), make("thead", "", make("tr", "", ...headings, acts)), make("tbody"));
  table.setAttribute("role", "table");
  return make("section", "card", head, table, make("p", "empty", "It has no endpoint: its names have no answer."));
}

const BALANCES = { weighted: "by weight", "least-sessions": "fewest sessions", "client-id": "by ClientID", "source-address": "by address" };

function updateUpstream(node, upstream, status) {
  const sessions = upstream.endpoints.reduce((sum, endpoint) => sum + endpoint.sessions, 0);
  const up = upstream.endpoints.filter((endpoint) => endpoint.state === "up").length;
  put(node.querySelector(".head .quiet"), `${up} of ${upstream.endpoints.length} up, ${plural(sessions, "session")}, ${BALANCES[upstream.balance] ?? upstream.balance}`);
  node.querySelector(".head button").hidden = upstream.endpoints.length < 2;
  const create = () => row([["name"], ["", "State"], ["n", "Sessions"], ["n", "Weight"], ["", "Last probe"], ["", "Last error"], ["acts"]]);
  follow(node.querySelector("tbody"), upstream.endpoints, (it) => it.name, create, (at, it) => updateEndpoint(at, upstream, it, status));
}

/** Text, and smaller text below it. */
function two(cell, text, below, className = "") {
  if (!cell.firstChild) cell.append(make("span", "", make("span"), make("span", "small")));
  const [first, second] = cell.firstChild.children;
  put(first, text).className = className;
  put(second, below).hidden = !below;
}

function updateEndpoint(node, upstream, endpoint, { now }) {
  const [name, at, sessions, weight, probe, error, acts] = node.children;
  const [mark, words, level] = state(endpoint);
  two(name, endpoint.name, endpoint.backup ? "backup" : "");
  const until = endpoint.avoided_seconds ? `, ${span(endpoint.avoided_seconds)} more` : "";
  two(at, `${mark} ${words}`, endpoint.since ? `for ${span(since(endpoint.since, now))}${until}` : "", `state ${level}`);
  two(sessions, endpoint.max_sessions ? `${count(endpoint.sessions)} of ${count(endpoint.max_sessions)}` : count(endpoint.sessions), `${count(endpoint.opened)} in all`);
  two(weight, count(endpoint.weight), endpoint.share_percent < 100 ? `now ${endpoint.share_percent} %` : "");
  const passed = endpoint.probe?.passed;
  two(probe, endpoint.probe ? (passed ? "passed" : "failed") : "none", endpoint.probe ? `${count(endpoint.probe.milliseconds)} ms, ${ago(endpoint.probe.at, now)}` : "", passed === false ? "bad" : "");
  // The whole of it stands above for as long as it matters.
  two(error, endpoint.error ? ago(endpoint.error.at, now) : "none", endpoint.state === "up" && endpoint.error ? cause(endpoint, endpoint.error.words) : "");
  error.dataset.none = !endpoint.error;
  probe.dataset.none = !endpoint.probe;
  const drains = endpoint.state === "draining" || endpoint.state === "drained";
  const query = `upstream=${encodeURIComponent(upstream.name)}&endpoint=${encodeURIComponent(endpoint.name)}`;
  const act = drains ? {
    path: `/resume?${query}`,
    words: "Resume",
    title: `Put ${endpoint.name} back to work?`,
    effect: "Its sessions are not asked to go any more, and new ones come to it again.",
  } : {
    path: `/drain?${query}`,
    words: "Drain",
    title: `Drain ${endpoint.name}?`,
    effect: `Nobody new is sent there. ${farewell(endpoint.sessions, `and connect anew, at the other endpoints of ${upstream.name}`)}`,
  };
  follow(acts, [act], (it) => it.path, (it) => {
    const control = button(`${it.words}…`, () => confirm(control.act));
    control.setAttribute("aria-label", `${it.words} ${endpoint.name}`);
    return control;
  }, (control, it) => {
    control.act = it;
  });
}

const farewell = (sessions, then) => (sessions ? `${plural(sessions, "session")} get${sessions === 1 ? "s" : ""} a goodbye, one after the other, ${then}.` : "It has no sessions now.");

function updateCounts(node, { reason, by, minute, total }) {
  const [why, lately, all] = node.children;
  two(why, reason, by ? `by ${by}` : "");
  put(lately, count(minute));
  put(all, count(total));
  node.dataset.idle = minute === 0;
}

function updateCertificate(node, { chain, kind, name, days_left: days, complaint, expires }) {
  const [by, left] = node.children;
  two(by, `${kind} ${name}`, chain);
  two(left, days < 0 ? "■ ended" : `${complaint ? "▲ " : ""}${plural(days, "day")}`, clock(expires), days < 3 ? "bad" : complaint ? "wait" : "");
}

function facts(status) {
  const { reload, upgrade, process, connections } = status;
  const went = reload && `${reload.applied ? "applied" : "refused"}, ${ago(reload.at, status.now)} (${reload.cause.replaceAll("_", " ")})`;
  const of = (used, limit) => (limit == null ? "" : ` of ${count(limit)}`);
  return [
    ["Stage", status.stage],
    ["Version", `${status.version}, process ${status.pid}`],
    ["Started", `${clock(status.started)}, ${span(status.uptime_seconds)} ago`],
    ...(upgrade?.from_version ? [["Took over", `from ${upgrade.from_version}, process ${upgrade.pid}, ${ago(upgrade.at, status.now)}`]] : []),
    ["Configuration", status.config],
    ["Last reload", went ?? "none since the start"],
    ["Connections", `${count(connections.held)} of ${count(connections.limit)}`],
    ["Memory", process.memory_bytes == null ? "unknown" : size(process.memory_bytes)],
    ["Open files", process.descriptors == null ? "unknown" : `${count(process.descriptors)}${of(process.descriptors, process.descriptors_limit)}`],
  ].flatMap(([name, value]) => [[name], [name, value]]);
}

function controls(status) {
  const drain = status.stage === "draining" || status.stage === "drained" ? {
    path: "/resume", words: "Resume", title: "Cancel the drain?", effect: "The gateway takes clients again.",
  } : {
    path: "/drain", words: "Drain the gateway", title: "Drain the gateway?",
    effect: `It takes nobody new. ${farewell(status.sessions.open, "and should connect to another gateway")} Use this before it is stopped or replaced.`,
  };
  return [{
    path: "/reload", words: "Reload", title: "Reload the configuration?",
    effect: `${status.config} is read again. Sessions live on; with a mistake in it nothing changes.`,
  }, drain];
}

// --- One client -----------------------------------------------------------------------------------------

let search = 0;

async function find() {
  const mine = ++search;
  let sessions = [];
  let next = null;
  let words = "No session has this ClientID now.";
  try {
    const response = await fetch(`/sessions?client_id=${encodeURIComponent(byId("find-id").value)}`, { headers: authorization(), cache: "no-store" });
    if (response.ok) ({ sessions, next } = await response.json());
    else words = await response.text();
  } catch {
    words = "The gateway does not answer.";
  }
  // The answer to a later search may have come before.
  if (mine !== search) return;
  put(byId("found-empty"), words);
  put(byId("found-more"), `These are the first ${sessions.length}. brokergate sessions lists all.`).hidden = !next;
  follow(byId("found"), sessions, (it) => it.id, () => row([[""], [""], ["acts"]]), updateFound);
}

function updateFound(node, session) {
  const [where, flow, acts] = node.children;
  two(where, session.address, `${session.endpoint ?? "no broker yet"}, ${session.state}, here for ${span(session.age_seconds)}`);
  two(flow, `${plural(session.packets_up, "packet")} up, ${count(session.packets_down)} down`, `heard ${span(session.idle_seconds)} ago`);
  // What the client calls itself stays out of the question: it may be written to mislead.
  const act = {
    path: `/kick?session=${session.id}`, words: "Kick", title: "Send this client away?",
    effect: `Session ${session.id}, from ${session.address}, gets a goodbye and is closed. The client may come back.`,
  };
  if (!acts.firstChild) acts.append(button("Kick…", () => confirm(act)));
}

byId("find").addEventListener("submit", (event) => {
  event.preventDefault();
  find();
});

// --- Control --------------------------------------------------------------------------------------------

/** Ask the person, then the gateway; what that says is shown as it is. */
function confirm({ path, words, title, effect }) {
  const dialog = byId("ask");
  put(byId("ask-title"), title);
  put(byId("ask-words"), effect);
  put(byId("ask-yes"), words);
  byId("ask-yes").onclick = () => {
    dialog.close();
    order(path, words);
  };
  dialog.showModal();
}

async function order(path, words) {
  say(`${words}: asked…`);
  try {
    const response = await fetch(path, { method: "POST", headers: { "X-Brokergate": "1", ...authorization() } });
    const answer = (await response.text()).trim();
    say(`${response.ok ? "✔" : "✖"} ${answer || response.status}`);
  } catch {
    say(`✖ ${words}: the gateway does not answer.`);
  }
  ask();
  if (byId("find-id").value) find();
}

function say(words) {
  byId("said").hidden = false;
  put(byId("said-words"), words);
}

byId("said-close").addEventListener("click", () => {
  byId("said").hidden = true;
});
byId("ask-no").addEventListener("click", () => byId("ask").close());

// --- Asking ---------------------------------------------------------------------------------------------

const authorization = () => {
  const token = sessionStorage.getItem(KEY);
  return token ? { Authorization: `Bearer ${token}` } : {};
};

async function ask() {
  clearTimeout(timer);
  if (isAsking || document.hidden) return;
  isAsking = true;
  try {
    const response = await fetch("/status", { headers: authorization(), cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
    if (response.status === 401 || response.status === 403) {
      letIn(response.status, await response.text());
    } else if (!response.ok) {
      throw new Error(`status ${response.status}`);
    } else {
      last = await response.json();
      heard = performance.now();
      failedSince = 0;
      show(last);
    }
  } catch {
    failedSince ||= performance.now();
  }
  isAsking = false;
  age();
  if (byId("login").hidden) timer = setTimeout(ask, EVERY);
}

/** Whoever is not let in is told why, in the gateway's words. */
function letIn(status, words) {
  failedSince = 0;
  last = null;
  byId("all").hidden = true;
  byId("login").hidden = false;
  const wrong = status === 401 && sessionStorage.getItem(KEY);
  put(byId("login-title"), status === 403 ? "This gateway tells nothing here" : "This gateway asks for its token");
  put(byId("login-why"), wrong ? "That was not the token." : status === 403 ? words : "It is admin.token in the configuration.");
  byId("login-field").hidden = status === 403;
  sessionStorage.removeItem(KEY);
  byId("token").focus();
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("token").value.trim());
  byId("token").value = "";
  byId("login").hidden = true;
  ask();
});

/** How old is what is shown, and does the gateway still answer? */
function age() {
  const now = performance.now();
  const old = last ? (now - heard) / 1000 : 0;
  const isLost = failedSince > 0;
  let link = "waiting";
  let words = "Asking the gateway";
  if (!byId("login").hidden) words = byId("login-field").hidden ? "Refused" : "Token needed";
  else if (document.hidden) [link, words] = ["resting", "Paused"];
  else if (isLost) [link, words] = ["lost", `No answer${last ? `, ${span(old)} old` : ""}`];
  else if (last) [link, words] = old < 3 ? ["live", `Live, ${last.stage}`] : ["late", `${span(old)} old`];
  document.body.dataset.link = link;
  put(byId("link-mark"), { live: "●", lost: "✖", late: "▲" }[link] ?? "○");
  put(byId("link"), words);
  byId("lost").hidden = !isLost;
  if (isLost) {
    const shown = last ? ` What is shown is from ${clock(last.now)}.` : "";
    put(byId("lost"), `The gateway does not answer.${shown} Is the process running, and this address reached?`);
  }
  for (const node of document.querySelectorAll("#all button")) node.disabled = isLost;
}

document.addEventListener("visibilitychange", ask);
setInterval(age, EVERY);
ask();
