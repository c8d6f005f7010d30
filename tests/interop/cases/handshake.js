// The upgrade: what is let in, and the sentence with which the rest is turned away.

import assert from 'node:assert/strict';

import { WebSocket } from 'ws';

import { oneUpstream } from '../harness/gateway.js';
import { request } from '../harness/http.js';
import { connectPacket, dial, exchange, RawClient, upgradeRequest } from '../harness/raw.js';
import { startHeaderBroker } from '../harness/upstream.js';

const gatewayTo = async (t, more) => t.gateway(oneUpstream([(await t.mosquitto()).ws], more));

/** Upgrades with these headers and says CONNECT; what the upgrade answered. */
async function letIn(t, gateway, headers, { version = 4 } = {}) {
  const client = await RawClient.open({ port: gateway.port, trust: t.tls, headers, version });
  t.defer(() => client.destroy());
  client.send(connectPacket(t.name('guest'), { version }));
  assert.equal((await client.nextPacket('CONNACK')).returnCode ?? 0, 0);
  return client.headers;
}

/** Upgrades with these headers; how it was turned away. */
async function turnedAway(t, gateway, headers, { at = '/mqtt', port = gateway.port, trust = t.tls } = {}) {
  const socket = await dial({ port, trust });
  t.defer(() => socket.destroy());
  return exchange(socket, upgradeRequest(at, headers));
}

const handshake = (name, run, more = {}) => ({ name, broker: 'mosquitto-ws', client: 'by hand', run, ...more });

export default [
  // Over TCP: mosquitto's own WebSocket listener does not know mqttv3.1.1.
  ...['mqtt', 'mqttv3.1', 'mqttv3.1.1'].map((protocol) => handshake(`subprotocol ${protocol} is echoed`, async (t) => {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
    const answer = await letIn(t, gateway, { 'Sec-WebSocket-Protocol': protocol });
    assert.equal(answer['sec-websocket-protocol'], protocol);
  }, { broker: 'mosquitto-tcp' })),
  handshake('a list of subprotocols: one of MQTT\'s is chosen', async (t) => {
    const answer = await letIn(t, await gatewayTo(t), { 'Sec-WebSocket-Protocol': 'chat, mqtt, mqttv3.1' });
    assert.equal(answer['sec-websocket-protocol'], 'mqtt');
  }),
  handshake('no subprotocol is accepted, and none is echoed', async (t) => {
    const answer = await letIn(t, await gatewayTo(t), { 'Sec-WebSocket-Protocol': undefined });
    assert.equal(answer['sec-websocket-protocol'], undefined);
  }),
  handshake('only unknown subprotocols: 400', async (t) => {
    const answer = await turnedAway(t, await gatewayTo(t), { 'Sec-WebSocket-Protocol': 'chat' });
    assert.equal(answer.status, 400);
    assert.match(answer.body, /mqtt/);
  }),
  {
    name: 'no subprotocol, as WeChat\'s default',
    broker: 'mosquitto-ws',
    client: 'WeChat (MQTT.js 5 wxs)',
    async run(t) {
      const client = await t.connect('WeChat (MQTT.js 5 wxs)', { url: (await gatewayTo(t)).url(), subprotocol: false });
      const topic = t.name();
      await client.subscribe(topic, 1);
      await client.publish(topic, 'from a mini program', { qos: 1 });
      assert.equal((await client.next('its message')).payload.toString(), 'from a mini program');
      await client.end();
    },
  },
  handshake('Firefox\'s "Connection: keep-alive, Upgrade"', async (t) => {
    await letIn(t, await gatewayTo(t), { Connection: 'keep-alive, Upgrade', Upgrade: 'websocket' });
  }),
  handshake('header names and tokens in any case', async (t) => {
    await letIn(t, await gatewayTo(t), { Upgrade: 'WebSocket', Connection: 'UPGRADE' });
  }),
  handshake('an offer of permessage-deflate is not taken up', async (t) => {
    const answer = await letIn(t, await gatewayTo(t), { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' });
    assert.equal(answer['sec-websocket-extensions'], undefined);
  }),
  handshake('a Cookie of 7 KiB is no obstacle, and the broker does not see it', async (t) => {
    await letIn(t, await gatewayTo(t), { Cookie: `session=${'c'.repeat(7000)}` });
    const broker = await startHeaderBroker();
    t.defer(broker.stop);
    const gateway = await t.gateway(oneUpstream([broker.url]));
    await letIn(t, gateway, { Cookie: `session=${'c'.repeat(7000)}` });
    assert.equal((await broker.request()).headers.cookie, undefined);
  }),
  handshake('a page\'s Origin passes where no list says otherwise', async (t) => {
    await letIn(t, await gatewayTo(t), { Origin: 'https://app.example.org' });
  }),
  handshake('an Origin that is not listed: 403; a listed one, and none, pass', async (t) => {
    const gateway = await t.gateway({
      ...oneUpstream([(await t.mosquitto()).ws]),
      routes: [{ path: '/mqtt', upstream: 'brokers', origins: ['https://app.example.org'] }],
    });
    assert.equal((await turnedAway(t, gateway, { Origin: 'https://evil.example.net' })).status, 403);
    await letIn(t, gateway, { Origin: 'https://app.example.org' });
    await letIn(t, gateway, {});
  }),
  handshake('a wrong path: 404 that names /mqtt', async (t) => {
    const answer = await turnedAway(t, await gatewayTo(t), {}, { at: '/ws' });
    assert.equal(answer.status, 404);
    assert.match(answer.body, /\/mqtt/);
  }),
  handshake('no WebSocket request on an MQTT route: 426 with Upgrade: websocket', async (t) => {
    const gateway = await gatewayTo(t);
    const answer = await request({ port: gateway.port, at: '/mqtt', trust: t.tls });
    assert.equal(answer.status, 426);
    assert.match(answer.headers.upgrade, /^websocket$/i);
  }),
  handshake('WebSocket version 8: 426 with Sec-WebSocket-Version: 13', async (t) => {
    const answer = await turnedAway(t, await gatewayTo(t), { 'Sec-WebSocket-Version': '8' });
    assert.equal(answer.status, 426);
    assert.equal(answer.headers['sec-websocket-version'], '13');
  }),
  handshake('a missing or a short key: 400', async (t) => {
    const gateway = await gatewayTo(t);
    assert.equal((await turnedAway(t, gateway, { 'Sec-WebSocket-Key': undefined })).status, 400);
    assert.equal((await turnedAway(t, gateway, { 'Sec-WebSocket-Key': 'c2hvcnQ=' })).status, 400);
  }),
  handshake('plain HTTP, and ws://, to the TLS port: 400 that says https and wss', async (t) => {
    const gateway = await gatewayTo(t);
    const page = await request({ port: gateway.port, at: '/', host: '127.0.0.1' });
    assert.equal(page.status, 400);
    assert.match(page.body, /https/);
    const upgrade = await turnedAway(t, gateway, {}, { trust: null });
    assert.equal(upgrade.status, 400);
    assert.match(upgrade.body, /wss/);
  }),
  {
    name: 'ws:// to the TLS port: the library shows the 400',
    broker: 'mosquitto-ws',
    client: 'ws (npm)',
    async run(t) {
      const gateway = await gatewayTo(t);
      const socket = new WebSocket(gateway.url().replace('wss:', 'ws:'), 'mqtt');
      const failure = await new Promise((resolve) => {
        socket.once('error', resolve);
      });
      assert.match(failure.message, /400/);
    },
  },
  handshake('wss:// to a plain port is closed at once, and the log says why', async (t) => {
    const gateway = await gatewayTo(t);
    const noted = gateway.server.line(/TLS/i);
    await assert.rejects(dial({ port: gateway.plainPort, trust: t.tls }));
    await noted;
    await letInPlain(t, gateway);
  }),
  {
    name: 'MQTT 3.1 with its own subprotocol',
    broker: 'mosquitto-tcp',
    client: 'MQTT.js 4',
    async run(t) {
      const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
      const client = await t.connect('MQTT.js 4', { url: gateway.url(), version: 3 });
      const topic = t.name();
      await client.subscribe(topic, 2);
      await client.publish(topic, 'as in 2010', { qos: 2 });
      assert.equal((await client.next('its message')).payload.toString(), 'as in 2010');
      await client.end();
    },
  },
];

async function letInPlain(t, gateway) {
  const client = await RawClient.open({ port: gateway.plainPort });
  t.defer(() => client.destroy());
  client.send(connectPacket(t.name('plain')));
  assert.equal((await client.nextPacket('CONNACK')).returnCode, 0);
}
