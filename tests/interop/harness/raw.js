// A client made by hand, to send what no library would: its own TLS, its own HTTP, its own frames.

import { randomBytes } from 'node:crypto';
import net from 'node:net';
import tls from 'node:tls';

import mqtt from 'mqtt-packet';

import { Inbox, within } from './wait.js';

/** An MQTT packet as bytes. */
export const packet = (fields, version = 4) => mqtt.generate({ protocolVersion: version, ...fields }, { protocolVersion: version });

/** A CONNECT as bytes. */
export const connectPacket = (clientId, { version = 4, ...fields } = {}) => packet({
  cmd: 'connect', protocolId: version === 3 ? 'MQIsdp' : 'MQTT', protocolVersion: version, clientId, clean: true, keepalive: 60, ...fields,
}, version);

/** A client's frame. */
export function frame(payload, { opcode = 2, final = true, masked = true } = {}) {
  const { length } = payload;
  const head = Buffer.alloc(length < 126 ? 2 : length < 65_536 ? 4 : 10);
  head[0] = (final ? 0x80 : 0) | opcode;
  head[1] = masked ? 0x80 : 0;
  if (length < 126) head[1] |= length;
  else if (length < 65_536) {
    head[1] |= 126;
    head.writeUInt16BE(length, 2);
  } else {
    head[1] |= 127;
    head.writeBigUInt64BE(BigInt(length), 2);
  }
  if (!masked) return Buffer.concat([head, payload]);
  const mask = randomBytes(4);
  return Buffer.concat([head, mask, payload.map((byte, index) => byte ^ mask[index % 4])]);
}

/** A TCP connection, with TLS if `trust` is given. */
export function dial({ host = '127.0.0.1', port, trust, localAddress }) {
  const socket = trust
    ? tls.connect({ host, port, ca: trust.ca, servername: 'localhost', localAddress, ALPNProtocols: ['http/1.1'] })
    : net.connect({ host, port, localAddress });
  socket.setNoDelay(true);
  return within(10_000, `a connection to ${host}:${port}`, new Promise((resolve, reject) => {
    socket.once(trust ? 'secureConnect' : 'connect', () => resolve(socket));
    socket.once('error', reject);
  }));
}

/** The lines of an upgrade request. A header of `undefined` is left out. */
export function upgradeRequest(at, headers = {}) {
  const all = {
    Host: 'localhost',
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Version': '13',
    'Sec-WebSocket-Key': randomBytes(16).toString('base64'),
    'Sec-WebSocket-Protocol': 'mqtt',
    ...headers,
  };
  const lines = Object.entries(all).filter(([, value]) => value !== undefined).map(([name, value]) => `${name}: ${value}`);
  return [`GET ${at} HTTP/1.1`, ...lines, '', ''].join('\r\n');
}

/** Sends `request` as it is; the answer's status, headers and, where there is one, its body. */
export async function exchange(socket, request, { early = Buffer.alloc(0) } = {}) {
  const answer = readAnswer(socket);
  socket.write(Buffer.concat([Buffer.from(request, 'latin1'), early]));
  return within(10_000, 'an answer to the request', answer);
}

function readAnswer(socket) {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const stop = () => {
      socket.off('data', hear);
      socket.off('end', ended);
      socket.off('error', reject);
    };
    const finish = (answer) => {
      stop();
      resolve(answer);
    };
    const look = (isEnd) => {
      const end = bytes.indexOf('\r\n\r\n');
      if (end < 0) return isEnd ? finish({ status: null, headers: {}, body: bytes.toString('latin1') }) : undefined;
      const [first, ...lines] = bytes.subarray(0, end).toString('latin1').split('\r\n');
      const headers = Object.fromEntries(lines.map((line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()]));
      const status = Number(first.split(' ')[1]);
      const rest = bytes.subarray(end + 4);
      if (status === 101) return finish({ status, headers, rest });
      const length = headers['content-length'];
      const whole = length === undefined ? isEnd : rest.length >= Number(length);
      return whole || isEnd ? finish({ status, headers, body: rest.toString('utf8') }) : undefined;
    };
    const hear = (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      look(false);
    };
    const ended = () => look(true);
    socket.on('data', hear);
    socket.once('end', ended);
    socket.once('error', reject);
  });
}

/** An upgraded connection: packets and close frames come in, frames or plain bytes go out. */
export class RawClient {
  #bytes;
  #packets = new Inbox();
  #closes = new Inbox();

  /** Upgrades, or fails with the answer's status and body. */
  static async open({ at = '/mqtt', headers, early, version = 4, ...address }) {
    const socket = await dial(address);
    const answer = await exchange(socket, upgradeRequest(at, headers), { early });
    if (answer.status !== 101) {
      socket.destroy();
      throw new Error(`the upgrade was answered ${answer.status}: ${answer.body}`);
    }
    return new RawClient(socket, answer, version);
  }

  constructor(socket, { headers, rest }, version) {
    this.socket = socket;
    this.headers = headers;
    this.parser = mqtt.parser({ protocolVersion: version });
    this.parser.on('packet', (it) => this.#packets.put(it));
    this.#bytes = rest;
    socket.on('error', () => {});
    socket.on('data', (chunk) => {
      this.#bytes = Buffer.concat([this.#bytes, chunk]);
      this.#read();
    });
    /** The connection's end. */
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        this.#packets.end('the connection closed');
        this.#closes.end('the connection closed without a close frame');
        resolve();
      });
    });
    this.#read();
  }

  #read() {
    for (;;) {
      const bytes = this.#bytes;
      if (bytes.length < 2) return;
      if (bytes[1] & 0x80) throw new Error('the server sent a masked frame');
      let length = bytes[1] & 0x7f;
      let head = 2;
      if (length === 126) {
        if (bytes.length < 4) return;
        length = bytes.readUInt16BE(2);
        head = 4;
      } else if (length === 127) {
        if (bytes.length < 10) return;
        length = Number(bytes.readBigUInt64BE(2));
        head = 10;
      }
      if (bytes.length < head + length) return;
      this.#frame(bytes[0] & 0x0f, bytes.subarray(head, head + length));
      this.#bytes = bytes.subarray(head + length);
    }
  }

  #frame(opcode, payload) {
    if (opcode === 8) this.#closes.put({ code: payload.length < 2 ? null : payload.readUInt16BE(0), reason: payload.subarray(2).toString() });
    else if (opcode <= 2) this.parser.parse(Buffer.from(payload));
  }

  send(payload, options) {
    this.socket.write(frame(payload, options));
  }

  nextPacket(what, settings) {
    return this.#packets.next(what, settings);
  }

  nextClose(what = 'a close frame', settings) {
    return this.#closes.next(what, settings);
  }

  destroy() {
    this.socket.destroy();
  }
}
