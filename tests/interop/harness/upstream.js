// Brokers of straw, to see exactly what the gateway tells a broker: they note what they are told and accept everyone.

import http from 'node:http';
import net from 'node:net';

import mqtt from 'mqtt-packet';
import { createWebSocketStream, WebSocketServer } from 'ws';

import { Inbox } from './wait.js';

/** A WebSocket broker that keeps each upgrade request's headers: `await broker.request()` is the next. */
export async function startHeaderBroker({ protocols = true } = {}) {
  const requests = new Inbox();
  const server = http.createServer();
  const sockets = new WebSocketServer({ server, ...(protocols ? {} : { handleProtocols: () => false }) });
  sockets.on('connection', (socket, request) => {
    requests.put({ url: request.url, headers: request.headers, raw: request.rawHeaders, port: request.socket.remotePort });
    answerMqtt(createWebSocketStream(socket));
  });
  const port = await listen(server);
  return {
    url: `ws://127.0.0.1:${port}/mqtt`,
    request: () => requests.next('an upgrade request at the broker'),
    stop: () => close(server),
  };
}

/** A TCP broker that wants a PROXY preamble, v1 or v2: `await broker.preamble()` is the next, taken apart. */
export async function startPreambleBroker() {
  const preambles = new Inbox();
  const server = net.createServer((socket) => {
    socket.on('error', () => {});
    let bytes = Buffer.alloc(0);
    const hear = (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      const found = parsePreamble(bytes);
      if (!found) return;
      socket.off('data', hear);
      preambles.put(found.preamble);
      if (bytes.length > found.length) socket.unshift(bytes.subarray(found.length));
      answerMqtt(socket);
    };
    socket.on('data', hear);
  });
  const port = await listen(server);
  return {
    url: `mqtt://127.0.0.1:${port}`,
    preamble: () => preambles.next('a PROXY preamble at the broker'),
    stop: () => close(server),
  };
}

const signature = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

/** Takes a PROXY preamble apart; `null` while it is not whole. https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt */
export function parsePreamble(bytes) {
  if (bytes.subarray(0, 12).equals(signature)) {
    if (bytes.length < 16 || bytes.length < 16 + bytes.readUInt16BE(14)) return null;
    const length = 16 + bytes.readUInt16BE(14);
    const wide = bytes[13] >> 4 === 2;
    const size = wide ? 16 : 4;
    const address = (at) => (wide
      ? [...Array(8).keys()].map((index) => bytes.readUInt16BE(at + 2 * index).toString(16)).join(':')
      : [...bytes.subarray(at, at + 4)].join('.'));
    const tlvs = new Map();
    for (let at = 16 + 2 * size + 4; at < length; at += 3 + bytes.readUInt16BE(at + 1)) {
      tlvs.set(bytes[at], bytes.subarray(at + 3, at + 3 + bytes.readUInt16BE(at + 1)));
    }
    return {
      length,
      preamble: {
        version: 2,
        command: bytes[12] & 0x0f,
        family: wide ? 'TCP6' : 'TCP4',
        source: address(16),
        sourcePort: bytes.readUInt16BE(16 + 2 * size),
        destinationPort: bytes.readUInt16BE(18 + 2 * size),
        tlvs,
      },
    };
  }
  const end = bytes.indexOf('\r\n');
  if (end < 0) return null;
  const [, family, source, , sourcePort, destinationPort] = bytes.subarray(0, end).toString().split(' ');
  return {
    length: end + 2,
    preamble: { version: 1, family, source, sourcePort: Number(sourcePort), destinationPort: Number(destinationPort), tlvs: new Map() },
  };
}

/** A PROXY v2 preamble, as a proxy in front of the gateway sends it. */
export function preambleV2({ source, sourcePort, destination = '192.0.2.254', destinationPort = 443 }) {
  const addresses = Buffer.alloc(12);
  Buffer.from(source.split('.').map(Number)).copy(addresses, 0);
  Buffer.from(destination.split('.').map(Number)).copy(addresses, 4);
  addresses.writeUInt16BE(sourcePort, 8);
  addresses.writeUInt16BE(destinationPort, 10);
  return Buffer.concat([signature, Buffer.from([0x21, 0x11, 0, addresses.length]), addresses]);
}

function answerMqtt(stream) {
  stream.on('error', () => {});
  const parser = mqtt.parser();
  const reply = (fields) => stream.write(mqtt.generate(fields));
  parser.on('packet', (it) => {
    if (it.cmd === 'connect') reply({ cmd: 'connack', returnCode: 0, sessionPresent: false });
    if (it.cmd === 'pingreq') reply({ cmd: 'pingresp' });
    if (it.cmd === 'disconnect') stream.end();
  });
  stream.on('data', (chunk) => parser.parse(chunk));
}

const listen = (server) => new Promise((resolve) => {
  server.listen(0, '127.0.0.1', () => resolve(server.address().port));
});

function close(server) {
  server.close();
  server.closeAllConnections?.();
}
