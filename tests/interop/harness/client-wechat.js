// A WeChat mini program's client: MQTT.js on its `wxs://` path, over a `wx.connectSocket` like WeChat's.
//
// Orders and events as in client-remote.js. One client a process, since the library keeps its socket
// in a module variable. It sends `chunk.buffer` whole: a mini program's Buffer has no shared pool, so ours
// must have none either.

import { Buffer } from 'node:buffer';
import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import readline from 'node:readline';

import { WebSocket } from 'ws';

Buffer.poolSize = 0;
const mqtt = createRequire(import.meta.url)('mqtt5');

let ca;
let withoutSubprotocol = false;

globalThis.wx = {
  // https://developers.weixin.qq.com/miniprogram/dev/api/network/websocket/wx.connectSocket.html
  connectSocket({ url, header = {}, protocols = [], success, complete }) {
    const offered = withoutSubprotocol ? [] : protocols;
    const socket = new WebSocket(url, offered, { ca, headers: header, perMessageDeflate: false });
    socket.binaryType = 'arraybuffer';
    const done = { errMsg: 'connectSocket:ok' };
    queueMicrotask(() => {
      success?.(done);
      complete?.(done);
    });
    return {
      onOpen: (hear) => socket.on('open', () => hear({ header: {} })),
      onMessage: (hear) => socket.on('message', (data, binary) => hear({ data: binary ? data : data.toString() })),
      onClose: (hear) => socket.on('close', (code, reason) => hear({ code, reason: reason.toString() })),
      onError: (hear) => socket.on('error', (error) => hear({ errMsg: error.message })),
      send({ data, success: sent, fail }) {
        if (socket.readyState !== WebSocket.OPEN) return fail?.({ errMsg: 'sendSocketMessage:fail' });
        return socket.send(data, (error) => (error ? fail?.({ errMsg: error.message }) : sent?.({ errMsg: 'ok' })));
      },
      close({ code = 1000, reason = '', success: shut, fail } = {}) {
        if (socket.readyState >= WebSocket.CLOSING) return fail?.({ errMsg: 'closeSocket:fail' });
        socket.close(code, reason);
        return shut?.({ errMsg: 'closeSocket:ok' });
      },
    };
  },
};

const tell = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
let client;

const orders = {
  connect({ url, ca: file, clientId, version, clean, keepalive, will, properties, subprotocol }) {
    ca = file && readFileSync(file);
    withoutSubprotocol = subprotocol === false;
    client = mqtt.connect(url.replace(/^ws/, 'wx'), {
      clientId,
      protocolVersion: version,
      clean,
      keepalive,
      will: will && { ...will, payload: Buffer.from(will.payload, 'base64') },
      reconnectPeriod: 0,
      connectTimeout: 15_000,
      properties,
      // Node is not a mini program: this is how MQTT.js is told to use what its surroundings offer.
      forceNativeWebSocket: true,
    });
    client.on('message', (topic, payload, { qos, retain }) =>
      tell({ event: 'message', topic, payload: payload.toString('base64'), qos, retain }));
    client.on('close', () => tell({ event: 'closed', reason: 'close' }));
    return new Promise((resolve, reject) => {
      client.once('connect', () => resolve({}));
      client.once('error', reject);
      client.once('close', () => reject(new Error('closed before CONNACK')));
    });
  },
  subscribe: async ({ topic, qos }) => ({ granted: (await client.subscribeAsync(topic, { qos }))[0].qos }),
  publish: async ({ topic, payload, qos, retain }) => {
    await client.publishAsync(topic, Buffer.from(payload, 'base64'), { qos, retain });
    return {};
  },
  end: async () => {
    await client.endAsync();
    return {};
  },
};

readline.createInterface({ input: process.stdin }).on('line', async (line) => {
  const { id, order, ...fields } = JSON.parse(line);
  try {
    tell({ id, ...(await orders[order](fields)) });
  } catch (error) {
    tell({ id, error: error.message });
  }
});
