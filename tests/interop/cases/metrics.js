// The numbers: they are there, and what went up came down.

import assert from 'node:assert/strict';

import { oneUpstream } from '../harness/gateway.js';
import { eventually } from '../harness/wait.js';

const gauges = ['brokergate_connections', 'brokergate_sessions', 'brokergate_endpoint_sessions'];
const total = (samples, ...names) => samples.filter(({ name }) => names.includes(name)).reduce((sum, { value }) => sum + value, 0);

const settled = (gateway) => eventually('all gauges at zero', async () => {
  const open = (await gateway.metrics()).filter(({ name, value }) => gauges.includes(name) && value !== 0);
  if (open.length > 0) throw new Error(open.map(({ name, value }) => `${name} ${value}`).join(', '));
  return true;
});

const counted = {
  name: 'metrics: a session is counted while it is open, and after, and so are its packets',
  broker: 'mosquitto-tcp',
  client: 'MQTT.js 5',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
    const before = await gateway.metrics();
    for (const name of gauges) assert.ok(before.some((sample) => sample.name === name && sample.value === 0), `no ${name} 0`);
    const client = await t.connect('MQTT.js 5', { url: gateway.url() });
    await client.publish(t.name(), 'counted', { qos: 1 });
    const during = await gateway.metrics();
    for (const name of gauges) assert.equal(total(during, name), 1, name);
    assert.equal(total(during, 'brokergate_endpoint_sessions_opened_total'), 1);
    await client.end();
    await settled(gateway);
    const after = await gateway.metrics();
    assert.equal(total(after, 'brokergate_sessions_ended_total'), 1);
    const publishes = after.filter(({ name, labels }) => name === 'brokergate_packets_total' && /^publish$/i.test(labels.type));
    assert.equal(total(publishes, 'brokergate_packets_total'), 1);
  },
};

const admin = {
  name: 'admin: live, ready and metrics',
  broker: 'mosquitto-tcp',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
    for (const at of ['/live', '/ready', '/metrics']) {
      assert.equal((await fetch(`${gateway.admin}${at}`)).status, 200, at);
    }
    assert.equal((await fetch(`${gateway.admin}/nowhere`)).status, 404);
  },
};

const backToZero = {
  name: 'metrics: after everything, no gateway holds a session or a connection, and each exits with 0',
  when: 'last',
  async run(t) {
    const gateways = await t.sharedGateways();
    for (const gateway of gateways) {
      await settled(gateway);
      assert.equal(await gateway.terminate(), 0);
    }
  },
};

export default [counted, admin, backToZero];
