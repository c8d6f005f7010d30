// A real browser: a page that the gateway serves, and its MQTT over wss to the same origin.

import assert from 'node:assert/strict';
import path from 'node:path';

import { connectPage, writeClientSite } from '../harness/browser.js';

const endpoints = {
  'mosquitto-ws': [async (t) => (await t.mosquitto()).ws, [4, 5], 2],
  'mosquitto-tcp': [async (t) => (await t.mosquitto()).mqtt, [4, 5], 2],
  'aedes-ws': [async (t) => (await t.aedes()).ws, [4], 2],
  'rabbitmq-ws': [async (t) => (await t.rabbitmq()).ws, [4], 1],
};

/** A tab with a client on a page that the gateway serves. */
async function openTab(t, gateway, options) {
  const client = await connectPage(await t.chromium(), {
    origin: `https://localhost:${gateway.port}`, clientId: t.name('tab'), ...options,
  });
  t.defer(() => client.page.close());
  return client;
}

const gatewayWithPage = async (t, broker) => t.gateway({
  routes: [
    { path: '/mqtt', upstream: 'brokers' },
    { path: '/', site: { root: writeClientSite(path.join(t.shared.folder, t.name('site'))), index: 'index.html' } },
  ],
  upstreams: { brokers: { endpoints: [{ url: await endpoints[broker][0](t) }] } },
});

const roundTrip = (broker, version, maxQos) => ({
  name: `QoS 0, 1 and 2 there and back (MQTT ${version === 5 ? '5' : '3.1.1'})`,
  broker,
  client: 'Chromium (MQTT.js 5)',
  ms: 60_000,
  async run(t) {
    const client = await openTab(t, await gatewayWithPage(t, broker), { version });
    for (const qos of [0, 1, 2]) {
      const topic = t.name();
      assert.equal(await client.subscribe(topic, qos), Math.min(qos, maxQos));
      await client.publish(topic, `from a page, QoS ${qos}`, { qos });
      const message = await client.next(`the message of QoS ${qos}`);
      assert.deepEqual([message.payload.toString(), message.qos], [`from a page, QoS ${qos}`, Math.min(qos, maxQos)]);
    }
    await client.end();
  },
});

const closedTab = {
  name: 'the Will fires when the tab is closed',
  broker: 'mosquitto-tcp',
  client: 'Chromium (MQTT.js 5)',
  ms: 60_000,
  async run(t) {
    const gateway = await gatewayWithPage(t, 'mosquitto-tcp');
    const topic = t.name();
    const witness = await t.connect('MQTT.js 5', { url: gateway.url() });
    await witness.subscribe(topic, 1);
    const client = await openTab(t, gateway, { will: { topic, payload: 'tab closed', qos: 1, retain: false } });
    await client.vanish();
    assert.equal((await witness.next('the Will')).payload.toString(), 'tab closed');
  },
};

function* trips() {
  for (const [broker, [, versions, maxQos]] of Object.entries(endpoints)) {
    for (const version of versions) yield roundTrip(broker, version, maxQos);
  }
}

export default [...trips(), closedTab];
