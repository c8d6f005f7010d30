// The demo's page. What comes from clients is shown by textContent alone, never as markup.

import { MqttClient } from "./mqtt.js";

const LOGGED = 200, PAYLOAD_SHOWN = 600, MOST_CLIENTS = 120;
const STATES = { opening: "Connecting", open: "Connected", waiting: "Reconnecting", failed: "Not started", closed: "Disconnected" };

const byId = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const random = () => Math.random().toString(16).slice(2, 8);
const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const percent = (share) => `${Math.round(share * 100)}%`;

const self = `page-${random()}`;
const extra = [];
let facts = { endpoints: [], commands: [], presence: "", path: "/mqtt", ca: "" };
let board = { connected: 0, endpoints: {}, clients: [] };
let newest = -1;
let closings = 0;
let page;

/** An element with a class and either text or children. */
function element(tag, className, content = []) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (Array.isArray(content)) made.append(...content);
  else made.textContent = content;
  return made;
}

/** An endpoint's name beside its colour. */
function way(name) {
  const label = element("span", "way", [element("span", "dot"), ` ${name}`]);
  label.dataset.way = facts.endpoints.findIndex((endpoint) => endpoint.name === name);
  return label;
}

// --- Endpoints -----------------------------------------------------------------------------------

const cards = new Map();

function showEndpoints() {
  facts.endpoints.forEach((endpoint, index) => {
    const number = element("span", "number", "0");
    const unit = element("span", "unit", "connected");
    const fill = element("div", "fill");
    const mark = element("div", "mark");
    const words = element("p", "note");
    const meter = element("div", "meter", [fill, mark]);
    meter.setAttribute("aria-hidden", "true");
    const head = element("header", "", [element("h3", "", endpoint.name), element("p", "", [number, " ", unit])]);
    const card = element("article", "endpoint", [head, element("code", "url", endpoint.url), meter, words]);
    card.dataset.way = index;
    const share = endpoint.weight / facts.endpoints.reduce((sum, { weight }) => sum + weight, 0);
    mark.style.left = `${share * 100}%`;
    cards.set(endpoint.name, { endpoint, number, fill, words, share });
    byId("endpoints").append(card);
  });
  measure();
}

function measure() {
  for (const [name, { endpoint, number, fill, words, share }] of cards) {
    const { connected = 0, opened = 0 } = board.endpoints?.[name] ?? {};
    const actual = board.connected > 0 ? connected / board.connected : 0;
    number.textContent = connected;
    fill.style.width = `${actual * 100}%`;
    words.textContent =
      `Weight ${endpoint.weight}: due ${percent(share)} of the clients, has ${percent(actual)}. ${plural(opened, "session")} so far.`;
  }
}

// --- Clients -------------------------------------------------------------------------------------

function showClients() {
  const clients = Array.isArray(board.clients) ? board.clients : [];
  const own = (client) => client.client_id === self;
  byId("clients").replaceChildren(...[...clients.filter(own), ...clients.filter((client) => !own(client))].map(row));
  newest = Math.max(newest, ...clients.map((client) => client.number));
  byId("clients-count").textContent = board.connected || "";
  byId("clients-empty").hidden = clients.length > 0;
  const shares = facts.endpoints.map(({ name }) => `${board.endpoints?.[name]?.connected ?? 0} through ${name}`);
  byId("summary").textContent = `${plural(board.connected, "client")}: ${shares.join(", ")}`;
  showStatus();
}

function row(client) {
  const id = element("span", "id", client.client_id || "(chosen by the broker)");
  if (client.client_id === self) id.append(element("span", "self", "this page"));
  const from = element("span", "from", `${client.address}, ${client.protocol}`);
  const since = new Date(client.since * 1000);
  const time = element("time", "", clock.format(since));
  time.dateTime = since.toISOString();
  const cells = [[id, from], [way(client.endpoint)], [time]];
  return element("tr", newest >= 0 && client.number > newest ? "fresh" : "", cells.map((cell) => element("td", "", cell)));
}

// --- Messages ------------------------------------------------------------------------------------

function hear(topic, payload) {
  if (topic !== facts.presence) return log(topic, payload);
  try {
    board = JSON.parse(payload);
    measure();
    showClients();
  } catch (error) {
    console.warn("an unreadable list of clients", error);
  }
  return undefined;
}

function log(topic, payload) {
  const now = new Date();
  const time = element("time", "", clock.format(now));
  time.dateTime = now.toISOString();
  const shown = payload.length > PAYLOAD_SHOWN ? `${payload.slice(0, PAYLOAD_SHOWN)}…` : payload;
  const list = byId("log");
  list.prepend(element("li", "fresh", [time, element("span", "topic", topic), element("span", "payload", shown)]));
  while (list.childElementCount > LOGGED) list.lastElementChild.remove();
}

byId("publish").addEventListener("submit", (event) => {
  event.preventDefault();
  page.publish(byId("topic").value, byId("payload").value);
});

byId("topic").addEventListener("input", ({ target }) => {
  const wild = /[+#]/.test(target.value);
  target.setCustomValidity(wild ? "Wildcards are for subscriptions: publish to a topic without + and #." : "");
});

// --- This page's connections ---------------------------------------------------------------------

function showStatus(words = "") {
  const { state } = page;
  const through = state === "open" && board.clients?.find((client) => client.client_id === self);
  byId("status").dataset.state = state;
  // What is shown of the others is only as fresh as our own connection.
  document.body.classList.toggle("stale", state !== "open");
  const parts = [STATES[state]];
  if (words) parts.push(`: ${words}`);
  if (through) parts.push(" through ", way(through.endpoint));
  byId("status-text").replaceChildren(...parts);
  byId("toggle").textContent = state === "closed" ? "Connect" : "Disconnect";
  byId("send").disabled = state !== "open";
}

byId("toggle").addEventListener("click", () => {
  if (page.state === "closed") page.connect();
  else page.disconnect();
});

byId("more").addEventListener("submit", async (event) => {
  event.preventDefault();
  const count = Math.min(byId("count").valueAsNumber, MOST_CLIENTS - extra.length);
  const before = closings;
  for (let left = count; left > 0 && closings === before; left -= 1) await openOne();
});

/** Open one more client, and wait until it is connected or has failed. */
function openOne() {
  return new Promise((resolve) => {
    const onState = (state) => {
      showExtra();
      if (state !== "opening") resolve();
    };
    const client = new MqttClient({ url: address(), clientId: `extra-${random()}`, onState });
    extra.push(client);
    client.connect();
  });
}

byId("close-more").addEventListener("click", () => {
  closings += 1;
  for (const client of extra.splice(0)) client.disconnect();
  showExtra();
});

function showExtra() {
  const open = extra.filter((client) => client.state === "open").length;
  byId("close-more").disabled = extra.length === 0;
  const full = extra.length >= MOST_CLIENTS ? " That is enough for one page." : "";
  byId("more-note").textContent = extra.length > 0 ? `${open} of ${extra.length} connected.${full}` : "";
}

function address() {
  return `wss://${location.host}${facts.path}`;
}

// --- Commands ------------------------------------------------------------------------------------

function showCommands() {
  byId("commands").append(...facts.commands.map(({ tool, about, lines }) =>
    element("div", "command", [element("h3", "", tool), element("p", "", about), ...lines.map(commandLine)])));
  byId("ca").textContent = facts.ca;
}

function commandLine(line) {
  const code = element("pre", "", line);
  const copy = element("button", "", "Copy");
  copy.type = "button";
  copy.setAttribute("aria-label", `Copy: ${line}`);
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(line);
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      copy.textContent = "Selected";
    }
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  });
  return element("div", "line", [code, copy]);
}

// --- Start ---------------------------------------------------------------------------------------

try {
  const answer = await fetch("demo.json", { cache: "no-store" });
  if (!answer.ok) throw new Error(`demo.json: ${answer.status}`);
  facts = await answer.json();
  showEndpoints();
  showCommands();
  byId("address").textContent = address();
  page = new MqttClient({
    url: address(),
    clientId: self,
    filters: [facts.presence, "#"],
    onState: (_, words) => showStatus(words),
    onMessage: hear,
  });
  page.connect();
} catch (error) {
  byId("status").dataset.state = "failed";
  byId("status-text").textContent = `Not started: ${error.message}`;
}
addEventListener("pagehide", () => {
  for (const client of [page, ...extra]) client?.disconnect();
});
