// Free ports on loopback, outside the range the kernel takes outgoing ports from, each handed out once.

import net from 'node:net';
import os from 'node:os';

/** Whether this machine has ::1. */
export const hasIpv6 = Object.values(os.networkInterfaces())
  .flat()
  .some((address) => address.address === '::1');

/** The loopback addresses of this machine, as they stand in a `host:port`. */
export const loopbacks = hasIpv6 ? ['127.0.0.1', '[::1]'] : ['127.0.0.1'];

let candidate = 10_000 + Math.floor(Math.random() * 15_000);

/** A port that nobody listens on. */
export async function freePort() {
  for (let attempt = 0; attempt < 500; attempt += 1) {
    candidate = candidate >= 32_000 ? 10_000 : candidate + 1;
    const port = candidate;
    if (await isFree(port)) return port;
  }
  throw new Error('no free port between 10000 and 32000');
}

async function isFree(port) {
  const hosts = hasIpv6 ? ['127.0.0.1', '::1'] : ['127.0.0.1'];
  const bound = await Promise.all(hosts.map((host) => canBind(host, port)));
  return bound.every(Boolean);
}

function canBind(host, port) {
  return new Promise((resolve) => {
    const server = net.createServer();
    server.once('error', () => resolve(false));
    server.listen({ host, port, exclusive: true }, () => server.close(() => resolve(true)));
  });
}
