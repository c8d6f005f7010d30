// Which endpoint a session goes to.

import assert from 'node:assert/strict';

import { oneUpstream } from '../harness/gateway.js';
import { eventually, within } from '../harness/wait.js';

const threeAedes = (t) => Promise.all(['aedes one', 'aedes two', 'aedes three'].map(t.ownAedes));

const counts = (brokers) => Promise.all(brokers.map(async (it) => (await it.accepted()).length));

/** Connects, and tells which broker took it: a broker may note that a moment after its CONNACK. */
async function landing(t, brokers, url, options) {
  const before = await counts(brokers);
  const client = await t.connect('MQTT.js 5', { url, ...options });
  const index = await eventually(`a broker that took ${client.clientId}`, async () => {
    const at = (await counts(brokers)).findIndex((count, broker) => count > before[broker]);
    return at < 0 ? null : { at };
  });
  return { client, index: index.at };
}

const weighted = {
  name: 'weights 5:3:1, 900 sessions of 50 clients at once: 500, 300 and 100',
  broker: 'aedes-ws',
  client: 'MQTT.js 5',
  when: 'alone',
  ms: 90_000,
  async run(t) {
    const brokers = await threeAedes(t);
    const weights = [5, 3, 1];
    const gateway = await t.gateway(oneUpstream(brokers.map(({ ws }, index) => ({ url: ws, weight: weights[index] }))));
    const oneAfterAnother = async () => {
      for (let session = 0; session < 18; session += 1) {
        const client = await t.connect('MQTT.js 5', { url: gateway.url() });
        await client.end();
      }
    };
    await Promise.all(Array.from({ length: 50 }, oneAfterAnother));
    const landed = await counts(brokers);
    for (const [index, wanted] of [500, 300, 100].entries()) {
      assert.ok(Math.abs(landed[index] - wanted) <= 2, `${landed.join(', ')} sessions`);
    }
    assert.equal(landed.reduce((sum, count) => sum + count), 900);
  },
};

const byClientId = {
  name: 'client-id: one ClientID, one endpoint; many ClientIDs, all endpoints',
  broker: 'aedes-ws',
  client: 'MQTT.js 5',
  async run(t) {
    const brokers = await threeAedes(t);
    const gateway = await t.gateway(oneUpstream(brokers.map(({ ws }) => ws), { upstream: { balance: 'client-id' } }));
    const homes = new Set();
    for (let device = 0; device < 20; device += 1) {
      const clientId = `device-${device}`;
      const landings = [];
      for (let visit = 0; visit < 3; visit += 1) {
        const { client, index } = await landing(t, brokers, gateway.url(), { clientId });
        landings.push(index);
        await client.end();
      }
      assert.equal(new Set(landings).size, 1, `${clientId} landed on ${landings}`);
      homes.add(landings[0]);
    }
    assert.equal(homes.size, 3);
  },
};

const takeover = {
  name: 'client-id: a second connection with the same ClientID takes the session over',
  broker: 'aedes-tcp',
  client: 'MQTT.js 5',
  async run(t) {
    const brokers = await threeAedes(t);
    const gateway = await t.gateway(oneUpstream(brokers.map(({ mqtt }) => mqtt), { upstream: { balance: 'client-id' } }));
    for (let device = 0; device < 6; device += 1) {
      const clientId = `twin-${device}`;
      const topic = t.name();
      const first = await landing(t, brokers, gateway.url(), { clientId, clean: false });
      await first.client.subscribe(topic, 1);
      const second = await landing(t, brokers, gateway.url(), { clientId, clean: false });
      assert.equal(second.index, first.index);
      await within(5_000, 'the end of the first', first.client.closed);
      // Its subscription was kept: that is what landing on the same broker is for.
      await second.client.publish(topic, 'to itself', { qos: 1 });
      assert.equal((await second.client.next('its message')).payload.toString(), 'to itself');
      await second.client.end();
    }
  },
};

const leastSessions = {
  name: 'least-sessions: 12 open sessions are 4, 4 and 4; those that end make room',
  broker: 'aedes-ws',
  client: 'MQTT.js 5',
  async run(t) {
    const brokers = await threeAedes(t);
    const gateway = await t.gateway(oneUpstream(brokers.map(({ ws }) => ws), { upstream: { balance: 'least-sessions' } }));
    const open = [];
    for (let session = 0; session < 12; session += 1) open.push(await landing(t, brokers, gateway.url()));
    const held = (index) => open.filter((it) => it.index === index).length;
    assert.deepEqual([0, 1, 2].map(held), [4, 4, 4]);
    const leaving = open.filter((it) => it.index === 1);
    await Promise.all(leaving.map(({ client, index }) => {
      const gone = brokers[index].server.line(new RegExp(`gone ${client.clientId}$`));
      return Promise.all([client.end(), gone]);
    }));
    for (let session = 0; session < 4; session += 1) {
      assert.equal((await landing(t, brokers, gateway.url())).index, 1);
    }
  },
};

const bySource = {
  name: 'source-address: one address, one endpoint',
  broker: 'aedes-ws',
  client: 'MQTT.js 5',
  async run(t) {
    const brokers = await threeAedes(t);
    const gateway = await t.gateway(oneUpstream(brokers.map(({ ws }) => ws), { upstream: { balance: 'source-address' } }));
    const homes = new Set();
    for (let host = 1; host <= 12; host += 1) {
      const localAddress = `127.0.7.${host}`;
      const url = gateway.url('/mqtt', '127.0.0.1');
      const landings = [];
      for (let visit = 0; visit < 3; visit += 1) {
        const { client, index } = await landing(t, brokers, url, { localAddress });
        landings.push(index);
        await client.end();
      }
      assert.equal(new Set(landings).size, 1, `${localAddress} landed on ${landings}`);
      homes.add(landings[0]);
    }
    assert.ok(homes.size > 1);
  },
};

export default [weighted, byClientId, takeover, leastSessions, bySource];
