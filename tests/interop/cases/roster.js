// One client among many, with real brokers and libraries: listed, looked at while it talks, and sent away.

import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';

import { binary, oneUpstream } from '../harness/gateway.js';
import { eventually, within } from '../harness/wait.js';

const run = promisify(execFile);

/** A command that asks the gateway, and what it prints. */
const command = async (gateway, ...words) => {
  const admin = gateway.admin.replace('http://', '');
  return (await within(15_000, words[0], run(binary, [...words, '--admin', admin]))).stdout;
};

const sessions = async (gateway, ...words) => JSON.parse(await command(gateway, 'sessions', '--json', ...words)).sessions;

/** `brokergate tap`, and the lines it prints. */
function tap(t, gateway, ...words) {
  const child = spawn(binary, ['tap', ...words, '--json', '--admin', gateway.admin.replace('http://', '')]);
  t.defer(() => child.kill());
  const ended = new Promise((resolve) => child.once('exit', resolve));
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await within(15_000, 'a line of the tap', lines.next())).value);
  return { ended, next };
}

const brokers = { 'mosquitto-tcp': async (t) => (await t.mosquitto()).mqtt, 'mosquitto-ws': async (t) => (await t.mosquitto()).ws };

const found = (broker, version) => ({
  name: `roster: a client is listed with what it says and hears (MQTT ${version === 5 ? '5' : '3.1.1'})`,
  broker,
  client: 'MQTT.js 5',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([await brokers[broker](t)]));
    const [clientId, topic] = [t.name('Gerät 传感器'), t.name()];
    const other = await t.connect('MQTT.js 5', { url: gateway.url(), version });
    const client = await t.connect('MQTT.js 5', { url: gateway.url(), version, clientId });
    await client.subscribe(topic, 1);
    await client.publish(topic, 'hello', { qos: 1 });
    await client.next('its own message');
    const [one, ...more] = await sessions(gateway, '--client-id', clientId);
    assert.deepEqual(more, []);
    assert.equal(one.client_id, clientId);
    assert.equal(one.protocol, version === 5 ? '5' : '3.1.1');
    assert.equal(one.state, 'open');
    assert.ok(one.packets_up >= 2 && one.packets_down >= 3 && one.bytes_up > 20 && one.bytes_down > 10, JSON.stringify(one));
    assert.equal((await sessions(gateway)).length, 2);
    assert.match(await command(gateway, 'sessions', '--client-id', clientId), new RegExp(`${clientId}.*\\n$`, 'u'));
    await client.end();
    await eventually('one left', async () => (await sessions(gateway)).length === 1);
    await other.end();
    await eventually('nobody left', async () => (await sessions(gateway)).length === 0);
  },
});

const looked = (broker, version) => ({
  name: `roster: a tap tells each packet of one client, and of no other (MQTT ${version === 5 ? '5' : '3.1.1'})`,
  broker,
  client: 'MQTT.js 5',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([await brokers[broker](t)]));
    const [clientId, topic] = [t.name('client'), t.name()];
    const other = await t.connect('MQTT.js 5', { url: gateway.url(), version });
    const client = await t.connect('MQTT.js 5', { url: gateway.url(), version, clientId });
    const { ended, next } = tap(t, gateway, '--client-id', clientId, '--payload');
    assert.equal((await next()).session.client_id, clientId);
    await client.subscribe(topic, 1);
    const subscribe = await next();
    assert.deepEqual([subscribe.type, subscribe.direction, subscribe.filters], ['subscribe', 'up', [{ filter: topic, qos: 1 }]]);
    const suback = await next();
    assert.deepEqual([suback.type, suback.direction, suback.codes, suback.packet_id], ['suback', 'down', [1], subscribe.packet_id]);
    // The other one's message comes down to this one; a large one by this one goes up, and comes back.
    await other.publish(topic, 'héllo', { qos: 1 });
    const publish = await next();
    assert.deepEqual([publish.type, publish.direction, publish.topic, publish.payload, publish.qos], ['publish', 'down', topic, 'héllo', 1]);
    const puback = await next();
    assert.deepEqual([puback.type, puback.direction, puback.packet_id], ['puback', 'up', publish.packet_id]);
    const size = 30_000;
    await client.publish(topic, Buffer.alloc(size, 0xff), { qos: 1 });
    const seen = [];
    while (seen.length < 4) seen.push(await next());
    const of = (type, direction) => seen.find((line) => line.type === type && line.direction === direction);
    for (const direction of ['up', 'down']) {
      assert.equal(of('publish', direction).payload_size, size);
      assert.match(of('publish', direction).payload_base64, /^\/{5000}/);
    }
    assert.ok(of('puback', 'up') && of('puback', 'down'));
    await client.end();
    assert.deepEqual([(await next()).type, (await next()).reason], ['disconnect', 'client_closed']);
    assert.equal(await within(15_000, 'the end of the tap', ended), 0);
  },
});

const kicked = (broker, version, becomes) => ({
  name: `roster: a kick by ClientID, the Will ${becomes === 'fire' ? 'fires' : 'does not fire'} (MQTT ${version === 5 ? '5' : '3.1.1'})`,
  broker,
  client: 'MQTT.js 5',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([await brokers[broker](t)]));
    const witness = await t.connect('MQTT.js 5', { url: gateway.url() });
    const [clientId, topic] = [t.name('client'), t.name()];
    await witness.subscribe(topic, 1);
    const will = { topic, payload: 'will', qos: 1, retain: false };
    const client = await t.connect('MQTT.js 5', { url: gateway.url(), version, clientId, will });
    const reason = new Promise((resolve) => {
      client.library.once('disconnect', ({ reasonCode }) => resolve(reasonCode));
    });
    assert.equal(await command(gateway, 'kick', '--client-id', clientId, '--will', becomes), '1 session is asked to go\n');
    await within(15_000, 'the close', client.closed);
    if (version === 5) assert.equal(await within(15_000, 'the reason', reason), 0x98);
    // The gateway's end of it may come after the client's, and after the Will.
    await eventually('it has left', async () => (await sessions(gateway, '--client-id', clientId)).length === 0);
    if (becomes === 'fire') {
      assert.equal((await witness.next('the Will')).payload.toString(), 'will');
    } else {
      await witness.publish(topic, 'afterwards', { qos: 1 });
      assert.equal((await witness.next('what comes first')).payload.toString(), 'afterwards');
    }
    const ended = (await gateway.metrics()).find(({ name, labels }) => name === 'brokergate_sessions_ended_total' && labels.reason === 'kicked');
    assert.deepEqual([ended.value, ended.labels.by], [1, 'gateway']);
    await assert.rejects(command(gateway, 'kick', '--client-id', clientId), ({ code }) => code === 1);
  },
});

function* all() {
  for (const broker of Object.keys(brokers)) {
    for (const version of [4, 5]) {
      yield found(broker, version);
      yield looked(broker, version);
      for (const becomes of ['fire', 'suppress']) yield kicked(broker, version, becomes);
    }
  }
}

export default [...all()];
