// Payloads of every length at which a frame's or a packet's header changes, up to 10 MiB, checked byte by byte.

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';

import { oneUpstream } from '../harness/gateway.js';

const hash = (bytes) => createHash('sha256').update(bytes).digest('hex');
const MiB = 1024 * 1024;

const brokers = {
  'mosquitto-ws': async (t) => (await t.mosquitto()).ws,
  'mosquitto-tcp': async (t) => (await t.mosquitto()).mqtt,
  'aedes-ws': async (t) => (await t.aedes()).ws,
  'aedes-tcp': async (t) => (await t.aedes()).mqtt,
};

const echo = (broker, what, sizes, { client: kind = 'MQTT.js 5', qos = 1, ms = 40_000 } = {}) => ({
  name: `payloads of ${what}, QoS ${qos}`,
  broker,
  client: kind,
  ms,
  async run(t) {
    const url = t.shared.direct ? await t.url(broker) : (await t.gateway(oneUpstream([await brokers[broker](t)]))).url();
    const client = await t.connect(kind, { url });
    const topic = t.name();
    await client.subscribe(topic, qos);
    for (const size of sizes) {
      const payload = randomBytes(size);
      const published = client.publish(topic, payload, { qos, ms });
      const message = await client.next(`${size} bytes`, { ms });
      assert.equal(message.payload.length, size);
      assert.equal(hash(message.payload), hash(payload));
      await published;
    }
    await client.end();
  },
});

const small = [0, 125, 126, 127, 128, 16_383, 16_384, 65_535, 65_536];

export default [
  ...Object.keys(brokers).map((broker) => echo(broker, '0 B to 64 KiB', small)),
  ...['Paho JavaScript', 'paho-mqtt (Python)', 'WeChat (MQTT.js 5 wxs)', 'MQTT.js 3'].map((client) =>
    echo('aedes-ws', '0 B to 64 KiB', small, { client })),
  ...['mosquitto-tcp', 'aedes-tcp', 'aedes-ws'].flatMap((broker) => [
    echo(broker, '1 MiB', [MiB]),
    echo(broker, '10 MiB', [10 * MiB]),
    echo(broker, '10 MiB', [10 * MiB], { qos: 0 }),
  ]),
  echo('mosquitto-tcp', '1 MiB', [MiB], { client: 'paho-mqtt (Python)' }),

  {
    name: 'a packet over max_packet_size: DISCONNECT 0x95 and close 1009',
    broker: 'mosquitto-tcp',
    client: 'MQTT.js 5',
    async run(t) {
      const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt], { limits: { max_packet_size: '64 KiB' } }));
      const client = await t.connect('MQTT.js 5', { url: gateway.url(), version: 5 });
      const goodbye = new Promise((resolve) => {
        client.library.once('disconnect', (packet) => resolve(packet.reasonCode));
      });
      client.library.publish(t.name(), randomBytes(128 * 1024));
      assert.equal(await goodbye, 0x95);
      await client.closed;
    },
  },
];
