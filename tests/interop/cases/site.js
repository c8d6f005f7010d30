// Static files beside MQTT on the same domain.

import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { connectPacket, dial, exchange, RawClient } from '../harness/raw.js';
import { request } from '../harness/http.js';

const page = '<!doctype html><title>a site</title>';
const alphabet = 'abcdefghijklmnopqrstuvwxyz';

/** A gateway with `/mqtt` and a site, a secret beside the site's root; asks it for `at`. */
async function withSite(t) {
  const folder = path.join(t.shared.folder, t.name('site'));
  const root = path.join(folder, 'www');
  mkdirSync(path.join(root, 'below'), { recursive: true });
  writeFileSync(path.join(root, 'index.html'), page);
  writeFileSync(path.join(root, 'below', 'index.html'), `${page}below`);
  writeFileSync(path.join(root, 'alphabet.txt'), alphabet);
  writeFileSync(path.join(folder, 'secret.txt'), 'crown jewels');
  const gateway = await t.gateway({
    routes: [{ path: '/mqtt', upstream: 'brokers' }, { path: '/', site: { root, index: 'index.html' } }],
    upstreams: { brokers: { endpoints: [{ url: (await t.mosquitto()).mqtt }] } },
  });
  const get = (at, options) => request({ port: gateway.port, at, trust: t.tls, ...options });
  return { gateway, get, folder };
}

const site = (name, run) => ({ name: `site: ${name}`, client: 'by hand', run });

export default [
  site('the index, of the root and of a folder', async (t) => {
    const { get } = await withSite(t);
    const index = await get('/');
    assert.equal(index.status, 200);
    assert.match(index.headers['content-type'], /^text\/html/);
    assert.equal(index.body, page);
    assert.equal((await get('/below/')).body, `${page}below`);
    assert.equal((await get('/nowhere')).status, 404);
  }),
  site('MQTT beside it', async (t) => {
    const { gateway } = await withSite(t);
    const client = await RawClient.open({ port: gateway.port, trust: t.tls });
    t.defer(() => client.destroy());
    client.send(connectPacket(t.name('beside')));
    assert.equal((await client.nextPacket('CONNACK')).returnCode, 0);
  }),
  site('304 to who has it already', async (t) => {
    const { get } = await withSite(t);
    const first = await get('/alphabet.txt');
    const { etag, 'last-modified': modified } = first.headers;
    assert.ok(etag || modified);
    if (etag) assert.equal((await get('/alphabet.txt', { headers: { 'If-None-Match': etag } })).status, 304);
    const again = await get('/alphabet.txt', { headers: { 'If-Modified-Since': modified } });
    assert.deepEqual([again.status, again.body], [304, '']);
  }),
  site('Range', async (t) => {
    const { get } = await withSite(t);
    const middle = await get('/alphabet.txt', { headers: { Range: 'bytes=2-4' } });
    assert.deepEqual([middle.status, middle.body, middle.headers['content-range']], [206, 'cde', 'bytes 2-4/26']);
    assert.equal((await get('/alphabet.txt', { headers: { Range: 'bytes=-3' } })).body, 'xyz');
    assert.equal((await get('/alphabet.txt', { headers: { Range: 'bytes=99-' } })).status, 416);
  }),
  site('HEAD, and methods that are none of a file\'s', async (t) => {
    const { get } = await withSite(t);
    const head = await get('/alphabet.txt', { method: 'HEAD' });
    assert.deepEqual([head.status, head.headers['content-length'], head.body], [200, '26', '']);
    assert.equal((await get('/alphabet.txt', { method: 'DELETE' })).status, 405);
  }),
  site('no way out of the root', async (t) => {
    const { gateway, get, folder } = await withSite(t);
    const attempts = [
      '/../secret.txt', '/%2e%2e/secret.txt', '/..%2fsecret.txt', '/%2e%2e%2fsecret.txt', '/below/../../secret.txt',
      '/..\\secret.txt', '/%5c..%5csecret.txt', '//../secret.txt', '/./../secret.txt', '/below/%2e%2e/%2e%2e/secret.txt',
      '/%252e%252e/secret.txt', `/${folder}/secret.txt`, '/alphabet.txt%00.html', '/....//secret.txt', '/..;/secret.txt',
    ];
    for (const at of attempts) {
      const answer = await get(at);
      assert.ok(answer.status >= 400 && answer.status < 500, `${at} was answered ${answer.status}`);
      assert.doesNotMatch(answer.body, /jewels/);
    }
    // As no HTTP library would send it.
    const socket = await dial({ port: gateway.port, trust: t.tls });
    t.defer(() => socket.destroy());
    const answer = await exchange(socket, 'GET ../secret.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    assert.ok(answer.status === null || answer.status >= 400);
    assert.doesNotMatch(answer.body, /jewels/);
    assert.equal((await get('/alphabet.txt')).body, alphabet);
  }),
];
