// aedes in a Node process of its own.

import { fileURLToPath } from 'node:url';

import { Server } from './server.js';
import { within } from './wait.js';

const program = fileURLToPath(new URL('./aedes-process.js', import.meta.url));

/** @returns the broker's URLs, its process, and a count of the sessions it has accepted. */
export async function startAedes({ name = 'aedes' } = {}) {
  const server = new Server(name, process.execPath, [program], { ipc: true });
  const answer = (what) => within(10_000, `${what} of ${name}`, new Promise((resolve, reject) => {
    const hear = (message) => {
      if (!(what in message)) return;
      server.child.off('message', hear);
      resolve(message[what]);
    };
    server.child.on('message', hear);
    server.exited.then(() => reject(new Error(`${name} ended early\n${server.tail(10).join('\n')}`)));
  }));
  const ports = await answer('ports');
  return {
    name,
    server,
    mqtt: `mqtt://127.0.0.1:${ports.tcp}`,
    ws: `ws://127.0.0.1:${ports.ws}/mqtt`,
    versions: [3, 4],
    maxQos: 2,
    accepted: () => {
      const sessions = answer('sessions');
      server.child.send('sessions');
      return sessions;
    },
    stop: () => server.stop({ signal: 'SIGKILL' }),
  };
}
