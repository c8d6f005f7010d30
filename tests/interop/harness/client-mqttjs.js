// MQTT.js of three generations, in this process.

import { createRequire } from 'node:module';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';

import { Inbox, within } from './wait.js';

const require = createRequire(import.meta.url);
const libraries = { mqtt3: require('mqtt3'), mqtt4: require('mqtt4'), mqtt5: require('mqtt5') };

export async function connectMqttJs(library, options) {
  const client = openMqttJs(library, options);
  try {
    client.connack = await within(options.ms ?? 20_000, `CONNACK for ${options.clientId}`, client.connected);
  } catch (error) {
    client.library.end(true);
    throw error;
  }
  return client;
}

/** The client at work, perhaps not connected yet: for those who want to see it fail, or come back. */
export function openMqttJs(library, options) {
  const sockets = [];
  const agent = keepSockets(options, sockets);
  const raw = libraries[library].connect(options.url, {
    clientId: options.clientId,
    protocolId: options.version === 3 ? 'MQIsdp' : 'MQTT',
    protocolVersion: options.version,
    clean: options.clean,
    keepalive: options.keepalive,
    username: options.username,
    password: options.password,
    will: options.will && { topic: options.will.topic, payload: Buffer.from(options.will.payload), qos: options.will.qos ?? 0, retain: options.will.retain ?? false },
    properties: options.properties,
    reconnectPeriod: options.reconnectPeriod ?? 0,
    connectTimeout: 15_000,
    resubscribe: true,
    wsOptions: { agent, headers: options.headers ?? {}, perMessageDeflate: options.perMessageDeflate },
  });
  const inbox = new Inbox();
  let lastError = null;
  raw.on('error', (error) => {
    lastError = error;
  });
  raw.on('message', (topic, payload, packet) => inbox.put({ topic, payload, qos: packet.qos, retain: packet.retain }));
  const connected = new Promise((resolve, reject) => {
    raw.once('connect', resolve);
    raw.once('error', reject);
    raw.once('close', () => reject(lastError ?? new Error('closed before CONNACK')));
  });
  connected.catch(() => {});
  const closed = new Promise((resolve) => {
    raw.once('close', () => {
      if (!options.reconnectPeriod) inbox.end(`the connection closed${lastError ? ` (${lastError.message})` : ''}`);
      resolve(lastError);
    });
  });
  return {
    library: raw,
    clientId: options.clientId,
    connected,
    closed,
    inbox,
    sockets,
    next: (what, settings) => inbox.next(what, settings),
    subscribe: async (topic, qos = 0) => {
      const granted = await settle(`SUBACK for ${topic}`, (done) => raw.subscribe(topic, { qos }, done));
      return granted?.[0]?.qos ?? qos;
    },
    publish: (topic, payload, { qos = 0, retain = false, ms } = {}) =>
      settle(`PUBLISH to ${topic}`, (done) => raw.publish(topic, payload, { qos, retain }, done), ms),
    end: () => settle('the end of the client', (done) => raw.end(false, {}, done)),
    vanish: () => sockets.at(-1).destroy(),
  };
}

function settle(what, start, ms = 20_000) {
  return within(ms, what, new Promise((resolve, reject) => {
    start((error, value) => (error ? reject(error) : resolve(value)));
  }));
}

// An agent that verifies with our authority, dials from the address asked for, and remembers its sockets.
function keepSockets({ url, tls: trust, localAddress }, sockets) {
  const secure = url.startsWith('wss:');
  const agent = new (secure ? https : http).Agent({ keepAlive: false });
  agent.createConnection = (asked) => {
    const servername = net.isIP(asked.host) ? '' : asked.host;
    const socket = secure
      ? tls.connect({ host: asked.host, port: asked.port, ca: trust.ca, servername, localAddress, ALPNProtocols: ['http/1.1'] })
      : net.connect({ host: asked.host, port: asked.port, localAddress });
    socket.setNoDelay(true);
    sockets.push(socket);
    return socket;
  };
  return agent;
}
