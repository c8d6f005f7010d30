// The admin listener's page, as an operator has it open: in light and dark, on a desk and on a phone.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';

import { startChromium } from '../harness/browser.js';
import { oneUpstream } from '../harness/gateway.js';
import { within } from '../harness/wait.js';

const patience = { timeout: 15_000 };
const probe = { kind: 'tcp', interval: '200ms', timeout: '1s', jitter: '0s', fall: 2 };

/** The page of a gateway's admin listener, and what it did that it should not. */
async function openPage(t, gateway, { width = 1280, scheme = 'light' } = {}) {
  const chromium = await startChromium({ folder: t.shared.folder, name: t.name('chromium'), spki: [] });
  t.defer(() => chromium.stop());
  const page = await chromium.browser.newPage();
  const faults = [];
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) faults.push(message.text());
  });
  page.on('pageerror', (error) => faults.push(error.message));
  page.on('request', (request) => {
    if (new URL(request.url()).origin !== gateway.admin) faults.push(`asked ${request.url()}`);
  });
  await page.setViewportSize({ width, height: 800 });
  await page.emulateMedia({ colorScheme: scheme });
  await page.goto(`${gateway.admin}/`);
  return { page, faults };
}

const verdict = (page, words) => page.locator('#verdict-words', { hasText: words }).waitFor(patience);
const tile = (page, title) => page.locator('.tile', { has: page.locator('h2', { hasText: title }) }).locator('.value');
const row = (page, name) => page.locator('.endpoints tbody tr', { hasText: name });

/** Texts whose contrast with what is behind them is below 4.5 (WCAG 2.2, 1.4.3). */
const faint = (page) => page.evaluate(() => {
  const channels = (color) => color.match(/[\d.]+/g).map(Number);
  const light = (color) => {
    const [r, g, b] = channels(color).map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = getComputedStyle(at).backgroundColor;
      if ((channels(color)[3] ?? 1) > 0) return color;
    }
    return 'rgb(255, 255, 255)';
  };
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].filter((node) => node.nodeType === Node.TEXT_NODE && node.data.trim());
    if (own.length === 0 || !element.checkVisibility()) continue;
    const [one, two] = [light(getComputedStyle(element).color), light(behind(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (two + 0.05);
    if (contrast < 4.5) found.push(`${element.textContent.trim()}: ${contrast.toFixed(2)}`);
  }
  return found;
});

const overflows = (page) => page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);

export default [
  {
    name: 'page: it shows sessions come and go, a broker that dies, and what to do, in light, dark and on a phone',
    broker: 'mosquitto-tcp',
    client: 'Chromium',
    when: 'alone',
    ms: 90_000,
    async run(t) {
      const brokers = [await t.ownMosquitto('mosquitto one'), await t.ownMosquitto('mosquitto two')];
      const names = ['alpha', '<b>two</b>'];
      const endpoints = brokers.map(({ mqtt }, place) => ({ url: mqtt, name: names[place] }));
      const gateway = await t.gateway(oneUpstream(endpoints, { upstream: { probe } }));
      const { page, faults } = await openPage(t, gateway);
      await row(page, 'alpha').locator('.state', { hasText: 'up' }).waitFor(patience);
      assert.equal(await tile(page, 'Sessions').innerText(), '0');

      const client = await t.connect('MQTT.js 5', { url: gateway.url() });
      const other = await t.connect('MQTT.js 5', { url: gateway.url() });
      await page.locator('.tile .value', { hasText: /^2$/ }).first().waitFor(patience);
      assert.equal(await tile(page, 'Sessions').innerText(), '2');
      await client.publish('a/b', 'c', { qos: 1 });
      await page.locator('.tile', { hasText: 'to brokers' }).locator('.value', { hasText: /[1-9]/ }).waitFor(patience);
      assert.match(await page.locator('.tile').first().locator('.spark-line').getAttribute('d'), /^M0\.00,/);

      brokers[1].server.kill('SIGKILL');
      await verdict(page, 'broken');
      const trouble = page.locator('.trouble', { hasText: '<b>two</b> is down' });
      await trouble.waitFor(patience);
      assert.match(await trouble.innerText(), /since .*cannot connect.*Look at that broker/s);
      await row(page, '<b>two</b>').locator('.state', { hasText: 'down' }).waitFor(patience);
      await page.locator('#endings tr', { hasText: 'broker_closed' }).waitFor(patience);

      for (const scheme of ['light', 'dark']) {
        await page.emulateMedia({ colorScheme: scheme });
        for (const width of [1280, 320]) {
          await page.setViewportSize({ width, height: 800 });
          assert.deepEqual(await faint(page), [], `${scheme}, ${width} px`);
          assert.equal(await overflows(page), false, `${scheme}, ${width} px`);
          assert.ok((await page.screenshot()).length > 10_000, 'an empty picture');
        }
      }
      await Promise.all([client, other].map((it) => it.library.endAsync(true)));
      await page.locator('.tile .value', { hasText: /^0$/ }).first().waitFor(patience);
      assert.deepEqual(faults, []);

      gateway.server.kill('SIGKILL');
      await page.locator('#lost', { hasText: 'does not answer' }).waitFor(patience);
      assert.equal(await page.locator('#controls button').first().isDisabled(), true);
    },
  },
  {
    name: 'page: its reload button asks first, and a refused reload is told with its mistakes',
    broker: 'mosquitto-tcp',
    client: 'Chromium',
    when: 'alone',
    ms: 60_000,
    async run(t) {
      const mosquitto = await t.mosquitto();
      const gateway = await t.gateway(oneUpstream([mosquitto.mqtt], { reload: { watch: false } }));
      const { page, faults } = await openPage(t, gateway, { width: 320, scheme: 'dark' });
      const orders = [];
      page.on('request', (request) => {
        if (request.method() === 'POST') orders.push(request.url());
      });
      const button = page.locator('#controls button', { hasText: 'Reload' });
      const dialog = page.locator('dialog#ask');
      await button.waitFor(patience);

      // By keyboard: Escape is no.
      await button.focus();
      await page.keyboard.press('Enter');
      await dialog.waitFor(patience);
      assert.equal(await page.locator('#ask-no').evaluate((it) => it === document.activeElement), true);
      await page.keyboard.press('Escape');
      await dialog.waitFor({ state: 'hidden', ...patience });
      assert.deepEqual(orders, []);

      await button.click();
      assert.match(await dialog.innerText(), /is read again/);
      await page.locator('#ask-yes').click();
      await page.locator('#said', { hasText: 'reloaded' }).waitFor(patience);
      assert.deepEqual(orders, [`${gateway.admin}/reload`]);
      await page.locator('#gateway', { hasText: 'applied' }).waitFor(patience);
      await page.locator('#said-close').click();
      assert.deepEqual(faults, []);

      writeFileSync(gateway.file, readFileSync(gateway.file, 'utf8').replace('[drain]', '[drian]'));
      await button.click();
      await page.locator('#ask-yes').click();
      await page.locator('#said', { hasText: 'did you mean `drain`' }).waitFor(patience);
      await verdict(page, 'broken');
      assert.match(await page.locator('.trouble', { hasText: 'refused' }).innerText(), /did you mean `drain`/);

      const upgrade = await fetch(`${gateway.admin}/upgrade`, { method: 'POST', headers: { 'X-Brokergate': '1' } });
      assert.equal(upgrade.ok, false);
      const trouble = page.locator('.trouble', { hasText: 'upgrade failed' });
      await trouble.waitFor(patience);
      assert.match(await trouble.innerText(), /did you mean `drain`/);
    },
  },
  {
    name: 'page: it asks for the token and keeps it in the tab',
    broker: 'mosquitto-tcp',
    client: 'Chromium',
    when: 'alone',
    ms: 60_000,
    async run(t) {
      const mosquitto = await t.mosquitto();
      const gateway = await t.gateway(oneUpstream([mosquitto.mqtt], { adminToken: 'an-example-of-a-token' }));
      const { page } = await openPage(t, gateway);
      const offer = async (token) => {
        await page.locator('#token').fill(token);
        await page.keyboard.press('Enter');
      };
      await page.locator('#login').waitFor(patience);
      assert.equal(await page.locator('#all').isVisible(), false);
      await offer('a-token-that-is-wrong');
      await page.locator('#login-why', { hasText: 'That was not the token' }).waitFor(patience);
      await offer('an-example-of-a-token');
      await page.locator('#verdict').waitFor(patience);
      await within(15_000, 'the page after a reload', page.reload());
      await page.locator('#verdict').waitFor(patience);
      assert.equal(await page.locator('#login').isVisible(), false);
    },
  },
  {
    name: 'page: one client is found by its ClientID and kicked, also on a phone',
    broker: 'mosquitto-tcp',
    client: 'Chromium',
    when: 'alone',
    ms: 60_000,
    async run(t) {
      const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
      const clientId = t.name('<b>Gerät</b> & \u202e');
      const client = await t.connect('MQTT.js 5', { url: gateway.url(), clientId, version: 5 });
      const { page, faults } = await openPage(t, gateway, { width: 320, scheme: 'dark' });
      const find = async (name) => {
        await page.locator('#find-id').fill(name);
        await page.keyboard.press('Enter');
      };
      await find('nobody');
      await page.locator('#found-empty', { hasText: 'No session has this ClientID' }).waitFor(patience);
      await find(clientId);
      const found = page.locator('#found tr');
      await found.waitFor(patience);
      assert.match(await found.innerText(), /127\.0\.0\.1:\d+.*open, here for .*0 packets up, 1 down.*heard/s);
      assert.deepEqual(await faint(page), []);
      assert.equal(await overflows(page), false);
      await found.locator('button').click();
      assert.match(await page.locator('dialog#ask').innerText(), /Send this client away\?.*from 127\.0\.0\.1:/s);
      await page.locator('#ask-yes').click();
      await within(15_000, 'the close', client.closed);
      await page.locator('#said', { hasText: '1 session is asked to go' }).waitFor(patience);
      await page.locator('#endings tr', { hasText: 'kicked' }).waitFor(patience);
      await find(clientId);
      await page.locator('#found-empty', { hasText: 'No session has this ClientID' }).waitFor(patience);
      assert.deepEqual(faults, []);
    },
  },
];
