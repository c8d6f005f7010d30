// Headless Chromium, and MQTT.js in a page of it, behind the words of clients.js.

import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { chromium } from 'playwright-core';

import { Inbox, within } from './wait.js';

const bundle = fileURLToPath(new URL('../node_modules/mqtt5/dist/mqtt.min.js', import.meta.url));

/** A browser with a profile of its own that knows no network but loopback, and trusts these keys. */
export async function startChromium({ folder, spki, name = 'chromium' }) {
  const browser = await chromium.launchPersistentContext(path.join(folder, name), {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    timeout: 60_000,
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-dev-shm-usage',
      '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
      '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1, EXCLUDE ::1',
      `--ignore-certificate-errors-spki-list=${spki.join(',')}`,
    ],
  });
  return { name, browser, stop: () => browser.close() };
}

/** A site whose page is an MQTT client; the folder. */
export function writeClientSite(folder) {
  mkdirSync(folder, { recursive: true });
  copyFileSync(bundle, path.join(folder, 'mqtt.js'));
  writeFileSync(path.join(folder, 'index.html'), '<!doctype html><meta charset="utf-8"><title>client</title><script src="mqtt.js"></script>');
  return folder;
}

/** Opens the site in a new tab, and connects from it to `wss:` at the same origin. */
export async function connectPage({ browser }, { origin, clientId, version = 4, will }) {
  const page = await browser.newPage();
  const inbox = new Inbox();
  const console = [];
  page.on('console', (message) => console.push(message.text()));
  page.on('pageerror', (error) => console.push(String(error)));
  await page.exposeFunction('heard', (topic, hex, qos, retain) => inbox.put({ topic, payload: Buffer.from(hex, 'hex'), qos, retain }));
  await page.goto(`${origin}/`);
  const explain = (what) => (error) => {
    throw new Error(`${what} in the page: ${error.message}\n${console.join('\n')}`);
  };
  const order = (what, run, argument) => within(20_000, what, page.evaluate(run, argument)).catch(explain(what));
  await order('CONNACK', async (options) => {
    const hex = (bytes) => [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    window.client = mqtt.connect(`wss://${location.host}/mqtt`, { ...options, reconnectPeriod: 0 });
    window.client.on('message', (topic, payload, { qos, retain }) => window.heard(topic, hex(payload), qos, retain));
    await new Promise((resolve, reject) => {
      window.client.once('connect', resolve);
      window.client.once('error', reject);
      window.client.once('close', () => reject(new Error('closed before CONNACK')));
    });
  }, { clientId, protocolVersion: version, will });
  return {
    page,
    clientId,
    inbox,
    next: (what, settings) => inbox.next(what, settings).catch(explain(what)),
    subscribe: (topic, qos = 0) => order('SUBACK', async ([filter, level]) => (await window.client.subscribeAsync(filter, { qos: level }))[0].qos, [topic, qos]),
    publish: (topic, payload, { qos = 0, retain = false } = {}) =>
      order('PUBLISH', async ([to, text, settings]) => {
        await window.client.publishAsync(to, text, settings);
      }, [topic, payload, { qos, retain }]),
    end: async () => {
      await order('the end', () => window.client.endAsync());
      await page.close();
    },
    // A tab that is closed says nothing in MQTT.
    vanish: () => page.close(),
  };
}
