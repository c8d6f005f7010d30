// Silence: the ordinary minute that cuts WebSockets elsewhere must not end a session here. These wait for real.

import assert from 'node:assert/strict';

import { oneUpstream } from '../harness/gateway.js';
import { connectPacket, RawClient } from '../harness/raw.js';
import { pause } from '../harness/wait.js';

const silent = (broker, kind, keepalive) => ({
  name: `65 s of silence with keepalive ${keepalive}`,
  broker,
  client: kind,
  ms: 100_000,
  when: 'throughout',
  async run(t) {
    const client = await t.connect(kind, { url: await t.url(broker), keepalive });
    const topic = t.name();
    await client.subscribe(topic, 1);
    const ended = await Promise.race([pause(65_000).then(() => 'still there'), client.closed.then(() => 'closed in the silence')]);
    assert.equal(ended, 'still there');
    await client.publish(topic, 'still here', { qos: 1 });
    assert.equal((await client.next('its own message')).payload.toString(), 'still here');
    await client.end();
  },
});

const cutAfterKeepalive = {
  name: 'a client that is silent beyond 1.5 x keepalive is cut',
  broker: 'mosquitto-tcp',
  client: 'by hand',
  when: 'throughout',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
    const client = await RawClient.open({ port: gateway.port, trust: t.tls });
    t.defer(() => client.destroy());
    client.send(connectPacket(t.name('asleep'), { keepalive: 2 }));
    await client.nextPacket('CONNACK');
    const started = Date.now();
    await client.nextClose('the close after 3 s of silence', { ms: 20_000 });
    const silence = Date.now() - started;
    assert.ok(silence >= 2_500, `cut after ${silence} ms already`);
  },
};

export default [
  silent('mosquitto-ws', 'MQTT.js 5', 60),
  silent('mosquitto-tcp', 'paho-mqtt (Python)', 60),
  silent('rabbitmq-ws', 'MQTT.js 4', 60),
  silent('mosquitto-ws', 'WeChat (MQTT.js 5 wxs)', 0),
  silent('mosquitto-tcp', 'MQTT.js 5', 0),
  silent('aedes-ws', 'MQTT.js 3', 0),
  silent('rabbitmq-ws', 'MQTT.js 5', 0),
  cutAfterKeepalive,
];
