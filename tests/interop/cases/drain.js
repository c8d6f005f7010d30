// The end of the gateway: everyone is told, then it exits with 0.

import assert from 'node:assert/strict';

import { oneUpstream } from '../harness/gateway.js';
import { connectPacket, RawClient } from '../harness/raw.js';
import { eventually } from '../harness/wait.js';

const goodbye = (broker, endpoint) => ({
  name: 'SIGTERM: DISCONNECT 0x8B to MQTT 5, close 1001 to all, exit code 0',
  broker,
  client: 'by hand',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([await endpoint(t)], { drain: { delay: '0s', window: '1s', grace: '3s' } }));
    const open = async (version) => {
      const client = await RawClient.open({ port: gateway.port, trust: t.tls, version });
      t.defer(() => client.destroy());
      client.send(connectPacket(t.name(`v${version}`), { version }));
      await client.nextPacket('CONNACK');
      return client;
    };
    const four = await Promise.all([open(4), open(4), open(4)]);
    const five = broker === 'aedes-ws' ? [] : await Promise.all([open(5), open(5)]);
    const exit = gateway.terminate();
    for (const client of five) {
      const packet = await client.nextPacket('DISCONNECT');
      assert.deepEqual([packet.cmd, packet.reasonCode], ['disconnect', 0x8b]);
    }
    for (const client of [...four, ...five]) {
      assert.equal((await client.nextClose()).code, 1001);
      // A server may not send DISCONNECT to an MQTT 3 client, and nothing but it to the others.
      await assert.rejects(client.nextPacket('nothing more', { ms: 100 }));
      client.destroy();
    }
    assert.equal(await exit, 0);
  },
});

const idle = {
  name: 'SIGTERM and SIGINT without clients: exit code 0 at once',
  broker: 'mosquitto-tcp',
  async run(t) {
    for (const signal of ['SIGTERM', 'SIGINT']) {
      const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
      assert.deepEqual(await gateway.server.stop({ signal, ms: 5_000 }), { code: 0, signal: null });
    }
  },
};

const unheeded = {
  name: 'SIGTERM with a client that ignores it: cut after the grace, exit code 0',
  broker: 'mosquitto-tcp',
  client: 'by hand',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt], { drain: { delay: '0s', window: '200ms', grace: '1s' } }));
    const client = await RawClient.open({ port: gateway.port, trust: t.tls });
    t.defer(() => client.destroy());
    client.send(connectPacket(t.name('deaf')));
    await client.nextPacket('CONNACK');
    client.socket.pause();
    assert.equal(await gateway.terminate(), 0);
  },
};

const wills = (broker, endpoint, version, will) => ({
  name: `/drain?will=${will}: the Will ${will === 'fire' ? 'fires' : 'does not fire'} (MQTT ${version === 5 ? '5' : '3.1.1'})`,
  broker,
  client: 'MQTT.js 5',
  async run(t) {
    const url = await endpoint(t);
    const gateway = await t.gateway(oneUpstream([url]));
    // The witness comes by another gateway: this one sends everybody away.
    const beside = await t.gateway(oneUpstream([url]));
    const witness = await t.connect('MQTT.js 5', { url: beside.url() });
    const topic = t.name();
    await witness.subscribe(topic, 1);
    const client = await t.connect('MQTT.js 5', { url: gateway.url(), version, will: { topic, payload: 'will', qos: 1, retain: false } });
    const answer = await fetch(`${gateway.admin}/drain?will=${will}`, { method: 'POST', headers: { 'X-Brokergate': '1' } });
    assert.equal(answer.status, 200);
    await client.closed;
    if (will === 'fire') {
      assert.equal((await witness.next('the Will')).payload.toString(), 'will');
    } else {
      // The broker has closed our connection: what it has to say of the client was said before this.
      await eventually('nobody left', async () => (await fetch(`${gateway.admin}/ready`)).text().then((text) => text === 'drained\n'));
      await witness.publish(topic, 'afterwards', { qos: 1 });
      assert.equal((await witness.next('what comes first')).payload.toString(), 'afterwards');
    }
  },
});

const library = {
  name: 'SIGTERM: the library sees reason 0x8B',
  broker: 'mosquitto-tcp',
  client: 'MQTT.js 5',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
    const client = await t.connect('MQTT.js 5', { url: gateway.url(), version: 5 });
    const reason = new Promise((resolve) => {
      client.library.once('disconnect', ({ reasonCode }) => resolve(reasonCode));
    });
    const exit = gateway.terminate();
    assert.equal(await reason, 0x8b);
    await client.closed;
    assert.equal(await exit, 0);
  },
};

const brokers = { 'mosquitto-tcp': async (t) => (await t.mosquitto()).mqtt, 'mosquitto-ws': async (t) => (await t.mosquitto()).ws };

function* allWills() {
  for (const [broker, endpoint] of Object.entries(brokers)) {
    for (const version of [4, 5]) {
      for (const will of ['fire', 'suppress']) yield wills(broker, endpoint, version, will);
    }
  }
}

export default [
  goodbye('mosquitto-tcp', async (t) => (await t.mosquitto()).mqtt),
  goodbye('mosquitto-ws', async (t) => (await t.mosquitto()).ws),
  goodbye('aedes-ws', async (t) => (await t.aedes()).ws),
  idle,
  unheeded,
  library,
  ...allWills(),
];
