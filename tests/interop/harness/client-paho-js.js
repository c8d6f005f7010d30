// Paho JavaScript. It wants a browser: we lend it a WebSocket and a localStorage.

import { createRequire } from 'node:module';

import { WebSocket } from 'ws';

import { Inbox, within } from './wait.js';

const require = createRequire(import.meta.url);

let trust;
let lastSocket;
globalThis.WebSocket = class extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { ca: trust?.ca });
    lastSocket = this;
  }
};
const Paho = require('paho-mqtt');

export async function connectPahoJs(options) {
  trust = options.tls;
  const client = new Paho.Client(options.url, options.clientId);
  const inbox = new Inbox();
  client.onMessageArrived = (message) => inbox.put({
    topic: message.destinationName,
    payload: Buffer.from(message.payloadBytes),
    qos: message.qos,
    retain: message.retained,
  });
  const closed = new Promise((resolve) => {
    client.onConnectionLost = (end) => {
      inbox.end(`the connection closed (${end.errorMessage ?? 'asked for'})`);
      resolve(end.errorCode === 0 ? null : new Error(end.errorMessage));
    };
  });
  const connecting = new Promise((resolve, reject) => {
    client.connect({
      timeout: 15,
      useSSL: options.url.startsWith('wss:'),
      mqttVersion: options.version,
      mqttVersionExplicit: true,
      cleanSession: options.clean,
      keepAliveInterval: options.keepalive,
      ...(options.will ? { willMessage: message(options.will.topic, options.will.payload, options.will) } : {}),
      onSuccess: resolve,
      onFailure: (failure) => reject(new Error(failure.errorMessage)),
    });
  });
  const socket = lastSocket;
  await within(20_000, `CONNACK for ${options.clientId}`, connecting);

  const delivered = new Map();
  client.onMessageDelivered = (sent) => delivered.get(sent)?.();
  return {
    clientId: options.clientId,
    closed,
    inbox,
    next: (what, settings) => inbox.next(what, settings),
    subscribe: (topic, qos = 0) => within(20_000, `SUBACK for ${topic}`, new Promise((resolve, reject) => {
      client.subscribe(topic, {
        qos,
        onSuccess: ({ grantedQos }) => resolve(grantedQos[0] ?? grantedQos),
        onFailure: (failure) => reject(new Error(failure.errorMessage)),
      });
    })),
    publish: (topic, payload, settings = {}) => within(20_000, `PUBLISH to ${topic}`, new Promise((resolve) => {
      const sent = message(topic, payload, settings);
      delivered.set(sent, resolve);
      client.send(sent);
    })),
    end: async () => {
      client.disconnect();
      await within(10_000, 'the end of the client', closed);
    },
    vanish: () => socket.terminate(),
  };
}

function message(topic, payload, { qos = 0, retain = false }) {
  // A Will's payload is sent only when it is a Uint8Array.
  const made = new Paho.Message(Uint8Array.from(Buffer.from(payload)));
  made.destinationName = topic;
  made.qos = qos;
  made.retained = retain;
  return made;
}
