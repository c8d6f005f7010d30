// Every client with every broker: what MQTT promises, through the gateway as without it.

import assert from 'node:assert/strict';

import { clients } from '../harness/clients.js';

const brokers = {
  'mosquitto-ws': { versions: [3, 4, 5], maxQos: 2 },
  'mosquitto-tcp': { versions: [3, 4, 5], maxQos: 2 },
  'aedes-ws': { versions: [3, 4], maxQos: 2 },
  'rabbitmq-ws': { versions: [3, 4], maxQos: 1 },
};

const roundTrip = {
  name: 'QoS 0, 1 and 2 there and back',
  async run(t, { connect, maxQos }) {
    const client = await connect();
    for (const qos of [0, 1, 2]) {
      const topic = t.name();
      assert.equal(await client.subscribe(topic, qos), Math.min(qos, maxQos));
      await client.publish(topic, `with QoS ${qos}`, { qos });
      const message = await client.next(`the message of QoS ${qos}`);
      assert.deepEqual(
        { topic: message.topic, payload: message.payload.toString(), qos: message.qos },
        { topic, payload: `with QoS ${qos}`, qos: Math.min(qos, maxQos) },
      );
    }
    await client.end();
  },
};

const retained = {
  name: 'a retained message awaits a later subscriber',
  async run(t, { connect }) {
    const topic = t.name();
    const publisher = await connect();
    await publisher.publish(topic, 'kept', { qos: 1, retain: true });
    const subscriber = await connect();
    await subscriber.subscribe(topic, 1);
    const message = await subscriber.next('the retained message');
    assert.equal(message.payload.toString(), 'kept');
    assert.equal(message.retain, true);
    await publisher.publish(topic, '', { qos: 1, retain: true });
    await publisher.end();
    await subscriber.end();
  },
};

const wildcard = {
  name: 'wildcards + and #',
  async run(t, { connect }) {
    const root = t.name();
    const client = await connect();
    await client.subscribe(`${root}/+/temperature`, 1);
    await client.subscribe(`${root}/cellar/#`, 1);
    await client.publish(`${root}/roof/humidity`, 'for nobody', { qos: 1 });
    await client.publish(`${root}/roof/temperature`, '21', { qos: 1 });
    await client.publish(`${root}/cellar/door/lock`, 'shut', { qos: 1 });
    const heard = [await client.next('the first'), await client.next('the second')];
    assert.deepEqual(heard.map(({ topic }) => topic).sort(), [`${root}/cellar/door/lock`, `${root}/roof/temperature`]);
    await client.end();
  },
};

const will = {
  name: 'the Will fires when the client vanishes',
  async run(t, { connect }) {
    const topic = t.name();
    const witness = await connect();
    await witness.subscribe(topic, 1);
    const patient = await connect({ will: { topic, payload: 'gone', qos: 1 } });
    patient.vanish();
    assert.equal((await witness.next('the Will')).payload.toString(), 'gone');
    await witness.end();
  },
};

const queued = {
  name: 'a persistent session gets what it missed',
  async run(t, { connect }) {
    const topic = t.name();
    const clientId = t.name('sleeper');
    const before = await connect({ clientId, clean: false, properties: { sessionExpiryInterval: 300 } });
    await before.subscribe(topic, 1);
    await before.end();
    const publisher = await connect();
    for (const text of ['one', 'two', 'three']) await publisher.publish(topic, text, { qos: 1 });
    const after = await connect({ clientId, clean: false, properties: { sessionExpiryInterval: 300 } });
    for (const text of ['one', 'two', 'three']) {
      assert.equal((await after.next(`"${text}"`)).payload.toString(), text);
    }
    await publisher.end();
    await after.end();
  },
};

function* matrix() {
  for (const [broker, { versions, maxQos }] of Object.entries(brokers)) {
    for (const client of Object.keys(clients)) {
      for (const version of clients[client].versions.filter((level) => versions.includes(level))) {
        for (const scenario of version === 3 ? [roundTrip] : [roundTrip, retained, wildcard, will, queued]) {
          yield {
            name: `${scenario.name} (MQTT ${{ 3: '3.1', 4: '3.1.1', 5: '5' }[version]})`,
            broker,
            client,
            async run(t) {
              const url = await t.url(broker);
              const connect = (options) => t.connect(client, {
                url,
                version,
                ...options,
                properties: version === 5 ? options?.properties : undefined,
              });
              await scenario.run(t, { connect, maxQos });
            },
          };
        }
      }
    }
  }
}

export default [...matrix()];
