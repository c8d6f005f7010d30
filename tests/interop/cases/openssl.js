// TLS with OpenSSL at the other end: every suite, new keys, resumption, and what is refused.

import assert from 'node:assert/strict';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { Server } from '../harness/server.js';
import { eventually } from '../harness/wait.js';

const suites = [
  ['-tls1_3', '-ciphersuites', 'TLS_AES_128_GCM_SHA256'],
  ['-tls1_3', '-ciphersuites', 'TLS_AES_256_GCM_SHA384'],
  ['-tls1_3', '-ciphersuites', 'TLS_CHACHA20_POLY1305_SHA256'],
  ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES128-GCM-SHA256'],
  ['-tls1_2', '-cipher', 'ECDHE-ECDSA-AES256-GCM-SHA384'],
  ['-tls1_2', '-cipher', 'ECDHE-ECDSA-CHACHA20-POLY1305'],
];

/** A gateway before a site of small answers and a large one. */
async function siteOf(t) {
  const root = path.join(t.shared.folder, t.name('openssl'));
  mkdirSync(root);
  for (let answer = 1; answer <= 4; answer += 1) writeFileSync(path.join(root, `${answer}`), `answer ${answer}\n`);
  writeFileSync(path.join(root, 'large'), `${'a line of a large answer\n'.repeat(10_000)}the large answer's end\n`);
  return t.gateway({ routes: [{ path: '/', site: { root } }] });
}

/** `openssl s_client`, its handshake done and the certificate believed. */
async function sClient(t, gateway, args) {
  const all = ['s_client', '-connect', `127.0.0.1:${gateway.port}`, '-servername', 'localhost', '-CAfile', t.tls.caFile, '-verify_return_error', ...args];
  const client = new Server('openssl s_client', 'openssl', all, { stdin: 'pipe' });
  t.defer(() => client.stop({ signal: 'SIGKILL' }));
  t.watch({ name: 'openssl s_client', server: client });
  client.child.stdin.on('error', () => {});
  await client.line(/Verify return code: 0 \(ok\)/);
  return client;
}

async function ask(client, what, answer) {
  client.child.stdin.write(`GET /${what} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  await client.line(answer);
}

const openssl = (name, run) => ({ name, broker: 'none', client: 'OpenSSL', run });

export default [
  openssl('every cipher suite carries small and large answers', async (t) => {
    const gateway = await siteOf(t);
    for (const args of suites) {
      const client = await sClient(t, gateway, args);
      await ask(client, '1', /answer 1/);
      await ask(client, 'large', /the large answer's end/);
      await ask(client, '2', /answer 2/);
      await client.stop({ signal: 'SIGKILL' });
    }
  }),
  openssl('new keys, asked for and not', async (t) => {
    const client = await sClient(t, await siteOf(t), ['-tls1_3']);
    await ask(client, '1', /answer 1/);
    for (const [index, command] of ['K', 'k', 'K'].entries()) {
      client.child.stdin.write(`${command}\n`);
      // s_client takes a command for itself only: what follows waits until it says so.
      await eventually(`key update ${index + 1}`, () => client.tail(4000).filter((line) => line === 'KEYUPDATE').length === index + 1);
      await ask(client, `${index + 2}`, new RegExp(`answer ${index + 2}`));
    }
  }),
  openssl('renegotiation is refused with no_renegotiation', async (t) => {
    const client = await sClient(t, await siteOf(t), ['-tls1_2']);
    await ask(client, '1', /answer 1/);
    client.child.stdin.write('R\n');
    await client.line(/no renegotiation/i);
    await client.exited;
  }),
  ...['-tls1_2', '-tls1_3'].map((version) => openssl(`a ticket resumes, ${version}`, async (t) => {
    const gateway = await siteOf(t);
    const ticket = path.join(t.shared.folder, t.name('ticket'));
    const first = await sClient(t, gateway, [version, '-sess_out', ticket]);
    await ask(first, '1', /answer 1/);
    first.child.stdin.write('Q\n');
    await first.exited;
    assert(existsSync(ticket), 'a ticket has come with the first answer');
    const second = await sClient(t, gateway, [version, '-sess_in', ticket]);
    await second.line(/^Reused, TLSv1/);
    await ask(second, '2', /answer 2/);
  })),
];
