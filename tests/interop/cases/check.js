// `brokergate check`: the file is right, or the sentence says where it is wrong.

import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { binary, oneUpstream } from '../harness/gateway.js';
import { Server } from '../harness/server.js';

async function check(file) {
  const server = new Server('brokergate check', binary, ['check', '--config', file]);
  const { code } = await server.exited;
  await new Promise((resolve) => {
    if (server.child.stderr.readableEnded) resolve();
    else server.child.stderr.once('close', resolve);
  });
  return { code, text: server.tail(100).join('\n') };
}

export default [
  {
    name: 'check: a file that runs is right; a wrong key is named with its place, and the exit code is 2',
    broker: 'mosquitto-tcp',
    async run(t) {
      const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
      assert.equal((await check(gateway.file)).code, 0);
      const wrong = path.join(t.shared.folder, `${t.name('wrong')}.toml`);
      writeFileSync(wrong, readFileSync(gateway.file, 'utf8').replace('endpoints =', 'endpoint ='));
      const { code, text } = await check(wrong);
      assert.equal(code, 2, text);
      assert.match(text, /endpoint/);
      assert.match(text, /endpoints/);
      const line = readFileSync(wrong, 'utf8').split('\n').findIndex((it) => it.startsWith('endpoint =')) + 1;
      assert.match(text, new RegExp(`${path.basename(wrong)}:${line}:\\d+`));
    },
  },
];
