// Debian's mosquitto: one TCP and one WebSocket listener, both on loopback alone.

import { writeFileSync } from 'node:fs';
import path from 'node:path';

import { freePort } from './ports.js';
import { Server } from './server.js';

/** @returns the broker's URLs, its process, and what it can do. */
export async function startMosquitto({ folder, name = 'mosquitto', tcp, ws }) {
  tcp ??= await freePort();
  ws ??= await freePort();
  const file = path.join(folder, `mosquitto-${ws}.conf`);
  writeFileSync(file, `
per_listener_settings false
allow_anonymous true
persistence false
user root
max_inflight_messages 0
max_queued_messages 0
log_dest stderr
log_type all

listener ${tcp} 127.0.0.1
socket_domain ipv4

listener ${ws} 127.0.0.1
protocol websockets
socket_domain ipv4
`);
  const server = new Server(name, 'mosquitto', ['-c', file]);
  await server.line(/mosquitto version .* running/);
  return {
    name,
    server,
    mqtt: `mqtt://127.0.0.1:${tcp}`,
    ws: `ws://127.0.0.1:${ws}/mqtt`,
    versions: [3, 4, 5],
    maxQos: 2,
    stop: () => server.stop({ signal: 'SIGKILL' }),
  };
}
