// Brokers that die, refuse, or were never there.

import assert from 'node:assert/strict';
import http from 'node:http';
import net from 'node:net';

import { oneUpstream } from '../harness/gateway.js';
import { freePort } from '../harness/ports.js';
import { connectPacket, RawClient } from '../harness/raw.js';
import { within } from '../harness/wait.js';

const killed = (scheme) => ({
  name: 'a killed broker: the client sees a close, comes back, and lands on the other',
  broker: `mosquitto-${scheme === 'mqtt' ? 'tcp' : 'ws'}`,
  client: 'MQTT.js 5',
  async run(t) {
    const brokers = [await t.ownMosquitto('mosquitto one'), await t.ownMosquitto('mosquitto two')];
    const gateway = await t.gateway(oneUpstream(brokers.map((it) => it[scheme])));
    const client = t.open({ url: gateway.url(), reconnectPeriod: 200 });
    const accepted = (broker) => broker.server.line(new RegExp(`New client connected .* as ${client.clientId} `)).then(() => broker);
    const first = await Promise.race(brokers.map(accepted));
    await within(10_000, 'the first CONNACK', client.connected);
    const second = brokers.find((it) => it !== first);

    const back = new Promise((resolve) => {
      client.library.once('connect', resolve);
    });
    first.server.kill('SIGKILL');
    await within(10_000, 'the close', client.closed);
    await within(20_000, 'the second CONNACK', back);
    await accepted(second);
    const topic = t.name();
    await client.subscribe(topic, 1);
    await client.publish(topic, 'after the fall', { qos: 1 });
    assert.equal((await client.next('its message')).payload.toString(), 'after the fall');
  },
});

const oneDown = {
  name: 'one of two endpoints is down: nobody notices',
  broker: 'mosquitto-tcp',
  client: 'MQTT.js 5',
  async run(t) {
    const mosquitto = await t.ownMosquitto();
    const gateway = await t.gateway(oneUpstream([`ws://127.0.0.1:${await freePort()}/mqtt`, `mqtt://127.0.0.1:${await freePort()}`, mosquitto.mqtt]));
    for (let session = 0; session < 12; session += 1) {
      const client = await t.connect('MQTT.js 5', { url: gateway.url() });
      await client.end();
    }
  },
};

const allDown = (version) => ({
  name: `all brokers down: CONNACK ${version === 5 ? '0x88' : '3'}, then close 1013; or 503 at once`,
  client: 'by hand',
  broker: `none (MQTT ${version === 5 ? '5' : '3.1.1'})`,
  async run(t) {
    const endpoints = [`mqtt://127.0.0.1:${await freePort()}`, `ws://127.0.0.1:${await freePort()}/mqtt`];
    const gateway = await t.gateway(oneUpstream(endpoints));
    const client = await RawClient.open({ port: gateway.port, trust: t.tls, version });
    t.defer(() => client.destroy());
    client.send(connectPacket(t.name('unlucky'), { version }));
    const connack = await client.nextPacket('CONNACK');
    assert.equal(version === 5 ? connack.reasonCode : connack.returnCode, version === 5 ? 0x88 : 3);
    assert.equal((await client.nextClose()).code, 1013);

    // By now it is known: the next may hear 503 before it upgrades, or the same again.
    try {
      const next = await RawClient.open({ port: gateway.port, trust: t.tls, version });
      next.send(connectPacket(t.name('unlucky'), { version }));
      await next.nextPacket('CONNACK');
      assert.equal((await next.nextClose()).code, 1013);
    } catch (error) {
      assert.match(error.message, /answered 503/);
    }
  },
});

const libraryHears = {
  name: 'all brokers down: the library reports "Server unavailable"',
  broker: 'none',
  client: 'MQTT.js 5',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([`mqtt://127.0.0.1:${await freePort()}`]));
    const client = t.open({ url: gateway.url() });
    await assert.rejects(within(15_000, 'a refusal', client.connected), /Server unavailable|503/i);
  },
};

const refused = (status) => ({
  name: `a broker that answers the upgrade ${status}: not authorized, and no second try`,
  broker: 'of straw',
  client: 'by hand',
  async run(t) {
    let upgrades = 0;
    const server = http.createServer();
    server.on('upgrade', (request, socket) => {
      upgrades += 1;
      socket.end(`HTTP/1.1 ${status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n`);
    });
    await new Promise((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    t.defer(() => server.close());
    const url = `ws://127.0.0.1:${server.address().port}/mqtt`;
    const gateway = await t.gateway(oneUpstream([url, { url: url.replace('/mqtt', '/other') }]));
    for (const [version, code] of [[4, 5], [5, 0x87]]) {
      const client = await RawClient.open({ port: gateway.port, trust: t.tls, version });
      t.defer(() => client.destroy());
      client.send(connectPacket(t.name('stranger'), { version }));
      const connack = await client.nextPacket('CONNACK');
      assert.equal(version === 5 ? connack.reasonCode : connack.returnCode, code);
    }
    assert.equal(upgrades, 2);
  },
});

const hangsUp = {
  name: 'a broker that hangs up on CONNECT: the next one gets the same CONNECT',
  broker: 'mosquitto-tcp',
  client: 'MQTT.js 5',
  async run(t) {
    const rude = net.createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.destroy());
    });
    await new Promise((resolve) => {
      rude.listen(0, '127.0.0.1', resolve);
    });
    t.defer(() => rude.close());
    const gateway = await t.gateway(oneUpstream([`mqtt://127.0.0.1:${rude.address().port}`, (await t.mosquitto()).mqtt]));
    for (let session = 0; session < 4; session += 1) {
      const client = await t.connect('MQTT.js 5', { url: gateway.url() });
      await client.end();
    }
  },
};

const comesBack = {
  name: 'a broker restarts: its clients come back by themselves',
  broker: 'mosquitto-tcp',
  client: 'MQTT.js 5',
  ms: 60_000,
  async run(t) {
    const before = await t.ownMosquitto('mosquitto before');
    const gateway = await t.gateway(oneUpstream([before.mqtt]));
    const client = t.open({ url: gateway.url(), reconnectPeriod: 500 });
    await within(10_000, 'the first CONNACK', client.connected);
    const down = new Promise((resolve) => {
      client.library.once('close', resolve);
    });
    await before.stop();
    await within(10_000, 'the close', down);
    const back = new Promise((resolve) => {
      client.library.once('connect', resolve);
    });
    await t.ownMosquitto('mosquitto after', { tcp: Number(new URL(before.mqtt).port) });
    await within(40_000, 'the client\'s return', back);
  },
};

export default [killed('ws'), killed('mqtt'), oneDown, allDown(4), allDown(5), libraryHears, refused(401), refused(403), hangsUp, comesBack];
