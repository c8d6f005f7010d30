// Many clients at once.

import assert from 'node:assert/strict';

const crowd = (broker, kind, count = 500) => ({
  name: `${count} clients at once, each hears itself`,
  broker,
  client: kind,
  when: 'alone',
  ms: 90_000,
  async run(t) {
    const url = await t.url(broker);
    const clients = await Promise.all(Array.from({ length: count }, () => t.connect(kind, { url, ms: 60_000 })));
    await Promise.all(clients.map(async (client, index) => {
      const topic = `${t.case.number}/crowd/${index}`;
      await client.subscribe(topic, 1);
      await client.publish(topic, `I am ${index}`, { qos: 1 });
      assert.equal((await client.next(`message ${index}`, { ms: 30_000 })).payload.toString(), `I am ${index}`);
    }));
    await Promise.all(clients.map((client) => client.end()));
  },
});

export default [crowd('mosquitto-tcp', 'MQTT.js 5'), crowd('mosquitto-ws', 'MQTT.js 5'), crowd('aedes-ws', 'MQTT.js 4')];
