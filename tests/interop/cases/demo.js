// `brokergate demo`, as somebody meets it first: start it, read what it prints, use that.

import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

import { startChromium } from '../harness/browser.js';
import { spkiHash } from '../harness/certificates.js';
import { binary } from '../harness/gateway.js';
import { request } from '../harness/http.js';
import { freePort } from '../harness/ports.js';
import { dial } from '../harness/raw.js';
import { run, Server } from '../harness/server.js';

/** The demo at work, and the addresses that it prints. */
async function startDemo(t, wanted) {
  const server = new Server('brokergate demo', binary, ['demo', '--port', String(wanted ?? await freePort())], {
    env: { TMPDIR: t.shared.folder },
  });
  t.watch({ name: server.name, server });
  t.defer(() => server.stop({ signal: 'SIGKILL' }));
  const printed = async (pattern) => pattern.exec(await server.line(pattern))[0];
  const page = await printed(/https:\/\/localhost:\d+\//);
  const socket = await printed(/wss:\/\/localhost:\d+\/\S*/);
  const caFile = await printed(/\/\S+\.pem\b/);
  return { server, page, socket, caFile, tls: { ca: readFileSync(caFile), caFile } };
}

export default [
  {
    name: 'demo: the printed mosquitto_pub meets a client that came through the gateway',
    broker: 'embedded',
    client: 'mosquitto_pub',
    async run(t) {
      const demo = await startDemo(t);
      const command = (await demo.server.line(/mosquitto_pub /)).trim();
      const client = await t.connect('MQTT.js 5', { url: demo.socket, tls: demo.tls });
      await client.subscribe('demo/#', 1);
      await run('sh', ['-c', command]);
      assert.equal((await client.next('its message')).payload.toString(), 'Hello from Mosquitto');
      await client.end();
    },
  },
  {
    name: 'demo: MQTT.js connects as printed, verifying the printed CA; Ctrl-C leaves nothing behind',
    broker: 'embedded',
    client: 'MQTT.js 5',
    async run(t) {
      const demo = await startDemo(t);
      for (const version of [4, 5]) {
        const client = await t.connect('MQTT.js 5', { url: demo.socket, tls: demo.tls, version });
        for (const qos of [0, 1, 2]) {
          const topic = t.name('demo/topic');
          await client.subscribe(topic, qos);
          await client.publish(topic, 'hello', { qos });
          assert.equal((await client.next('its message')).payload.toString(), 'hello');
        }
        await client.end();
      }
      await assert.rejects(t.connect('MQTT.js 5', { url: demo.socket, tls: t.tls }), /certificate/i);
      assert.deepEqual(await demo.server.stop({ signal: 'SIGINT' }), { code: 0, signal: null });
      assert.ok(!existsSync(demo.caFile));
    },
  },
  {
    name: 'demo: a second one beside the first takes another port',
    broker: 'embedded',
    client: 'MQTT.js 5',
    async run(t) {
      const first = await startDemo(t);
      const second = await startDemo(t, new URL(first.page).port);
      assert.notEqual(second.socket, first.socket);
      for (const demo of [first, second]) {
        const client = await t.connect('MQTT.js 5', { url: demo.socket, tls: demo.tls });
        await client.end();
      }
    },
  },
  {
    name: 'demo: its page shows who is connected, and what they say',
    broker: 'embedded',
    client: 'Chromium',
    when: 'alone',
    ms: 60_000,
    async run(t) {
      const demo = await startDemo(t);
      const { port } = new URL(demo.page);
      assert.equal((await request({ port, at: '/', trust: demo.tls })).status, 200);
      // A browser that trusts the demo's key, as if somebody had accepted its certificate.
      const connection = await dial({ port, trust: demo.tls });
      const spki = [spkiHash(connection.getPeerX509Certificate().raw)];
      connection.destroy();
      const chromium = await startChromium({ folder: t.shared.folder, name: t.name('chromium'), spki });
      t.defer(() => chromium.stop());
      const page = await chromium.browser.newPage();
      await page.goto(demo.page);

      const client = await t.connect('MQTT.js 5', { url: demo.socket, tls: demo.tls, clientId: 'weather-station' });
      const row = page.locator('#clients tr', { hasText: 'weather-station' });
      await row.waitFor({ timeout: 15_000 });
      await page.locator('#clients tr', { hasText: 'this page' }).waitFor({ timeout: 15_000 });
      await client.publish('demo/weather', '21 degrees <b>and</b> sunny', { qos: 1 });
      const message = page.locator('#log li', { hasText: 'demo/weather' });
      await message.waitFor({ timeout: 15_000 });
      assert.match(await message.innerText(), /21 degrees <b>and<\/b> sunny/);
      const picture = await page.screenshot({ path: path.join(t.shared.folder, 'demo.png'), fullPage: true });
      assert.ok(picture.length > 10_000, 'an empty picture');

      await client.end();
      await row.waitFor({ state: 'detached', timeout: 15_000 });
    },
  },
];
