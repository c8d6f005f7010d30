// A small MQTT 3.1.1 client over WebSocket: QoS 0, keepalive, and reconnecting. Enough for this page.

const CONNECT = 0x10, CONNACK = 0x20, PUBLISH = 0x30, SUBSCRIBE = 0x82, SUBACK = 0x90;
const PINGREQ = 0xc0, PINGRESP = 0xd0, DISCONNECT = 0xe0;

// A hidden tab's timers run once a minute: the ping must come well within 1.5 keepalives all the same.
const KEEPALIVE = 120, PING_EVERY = 50_000, ANSWER = 15_000;
const FIRST_PAUSE = 1_000, LONGEST_PAUSE = 15_000;
const CONNACK_WORDS = [
  "", "unacceptable protocol version", "ClientID rejected", "no broker is available", "bad user name or password",
  "not authorized",
];

const utf8 = new TextEncoder();
const text = new TextDecoder();

const word = (value) => [value >> 8, value & 0xff];

/** A string as MQTT writes it: its length in two bytes, then UTF-8 (1.5.3). */
function string(value) {
  const bytes = utf8.encode(value);
  if (bytes.length > 0xffff) throw new RangeError("longer than 65535 bytes");
  return [...word(bytes.length), ...bytes];
}

/** A packet: its first byte, its remaining length (2.2.3), the rest. */
function packet(first, ...parts) {
  const size = parts.reduce((sum, part) => sum + part.length, 0);
  const head = [first];
  let left = size;
  do {
    head.push((left & 0x7f) | (left > 0x7f ? 0x80 : 0));
    left >>= 7;
  } while (left > 0);
  const bytes = new Uint8Array(head.length + size);
  bytes.set(head);
  let at = head.length;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

/** The first packet in `bytes`, `null` where it is not whole yet. */
function firstPacket(bytes) {
  let length = 0;
  for (let at = 1; at < bytes.length; at += 1) {
    if (at > 4) throw new RangeError("the broker sent a length of more than four bytes");
    length |= (bytes[at] & 0x7f) << (7 * (at - 1));
    if (bytes[at] < 0x80) {
      const start = at + 1, end = start + length;
      return end > bytes.length ? null : { first: bytes[0], body: bytes.subarray(start, end), end };
    }
  }
  return null;
}

export class MqttClient {
  /**
   * `onState(state, words)` hears `opening`, `open`, `waiting` (to reconnect), `failed` and `closed`;
   * `onMessage(topic, payload)` hears what `filters` ask for.
   */
  constructor({ url, clientId, filters = [], onState = () => {}, onMessage = () => {} }) {
    Object.assign(this, { url, clientId, filters, onState, onMessage });
    this.state = "closed";
    this.pause = FIRST_PAUSE;
  }

  connect() {
    if (this.state === "open" || this.state === "opening") return;
    clearTimeout(this.retry);
    this.received = new Uint8Array(0);
    this.reason = "";
    this.enter("opening");
    const socket = new WebSocket(this.url, "mqtt");
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.send(packet(CONNECT, string("MQTT"), [4, 0x02], word(KEEPALIVE), string(this.clientId)));
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = ({ reason }) => this.lost(this.reason || reason);
    this.socket = socket;
    this.unanswered = setTimeout(() => this.fail("no answer"), ANSWER);
  }

  disconnect() {
    if (this.state === "open") this.send(packet(DISCONNECT));
    this.forget();
    this.enter("closed");
  }

  publish(topic, payload) {
    if (this.state !== "open") return false;
    this.send(packet(PUBLISH, string(topic), utf8.encode(payload)));
    return true;
  }

  send(bytes) {
    this.socket.send(bytes);
  }

  receive(data) {
    if (typeof data === "string") return this.fail("the broker sent text, and MQTT is binary");
    const bytes = new Uint8Array(this.received.length + data.byteLength);
    bytes.set(this.received);
    bytes.set(new Uint8Array(data), this.received.length);
    let rest = bytes;
    try {
      for (let next = firstPacket(rest); next && this.socket; next = firstPacket(rest)) {
        rest = rest.subarray(next.end);
        this.handle(next.first, next.body);
      }
    } catch (error) {
      return this.fail(error.message);
    }
    this.received = rest.slice();
  }

  handle(first, body) {
    switch (first & 0xf0) {
      case CONNACK:
        if (body[1] !== 0) return this.fail(CONNACK_WORDS[body[1]] ?? `refused with code ${body[1]}`);
        clearTimeout(this.unanswered);
        this.pause = FIRST_PAUSE;
        this.pinging = setInterval(() => this.ping(), PING_EVERY);
        if (this.filters.length > 0) {
          this.send(packet(SUBSCRIBE, word(1), ...this.filters.map((filter) => [...string(filter), 0])));
        }
        return this.enter("open");
      case SUBACK:
        if (body.subarray(2).includes(0x80)) this.fail("the broker refused a subscription");
        return undefined;
      case PUBLISH: {
        // We subscribe at QoS 0, so there is no packet identifier between topic and payload.
        const size = (body[0] << 8) | body[1];
        return this.onMessage(text.decode(body.subarray(2, 2 + size)), text.decode(body.subarray(2 + size)));
      }
      case PINGRESP:
        return clearTimeout(this.unanswered);
      default:
        return undefined;
    }
  }

  ping() {
    this.send(packet(PINGREQ));
    clearTimeout(this.unanswered);
    this.unanswered = setTimeout(() => this.fail("no answer to a ping"), ANSWER);
  }

  /** End the connection for `reason`; a new one is tried later. */
  fail(reason) {
    this.forget();
    this.lost(reason);
  }

  lost(reason) {
    this.forget();
    const pause = this.pause * (0.75 + Math.random() / 2);
    this.pause = Math.min(this.pause * 2, LONGEST_PAUSE);
    this.retry = setTimeout(() => this.connect(), pause);
    this.enter("waiting", reason);
  }

  forget() {
    for (const timer of [this.retry, this.unanswered]) clearTimeout(timer);
    clearInterval(this.pinging);
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
    this.socket = null;
  }

  enter(state, words = "") {
    this.state = state;
    this.onState(state, words);
  }
}
