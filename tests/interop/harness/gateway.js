// brokergate as its users run it: a TOML file, a process, an admin address.

import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { freePort, loopbacks } from './ports.js';
import { Server } from './server.js';
import { eventually } from './wait.js';

export const binary = process.env.BROKERGATE ?? fileURLToPath(new URL('../../../target/release/brokergate', import.meta.url));

let counter = 0;

/**
 * Starts brokergate and waits until it is ready. `config` is the file's content as an object; what it
 * leaves out is a TLS listener on loopback, a JSON log, an admin address, roomy limits, a quick drain.
 */
export async function startGateway(settings) {
  for (let left = 3; ; left -= 1) {
    try {
      return await startOnce(settings);
    } catch (error) {
      // A port that was free a moment ago is somebody else's now.
      if (left === 1 || !error.message.includes('Address already in use')) throw error;
    }
  }
}

async function startOnce({ folder, certificates, config }) {
  counter += 1;
  const file = path.join(folder, `brokergate-${counter}.toml`);
  const [port, plainPort, adminPort] = [await freePort(), await freePort(), await freePort()];
  const { listeners, adminToken, ...rest } = config;
  const full = {
    log: { format: 'json', level: 'debug' },
    admin: { address: `127.0.0.1:${adminPort}`, ...(adminToken && { token: adminToken }) },
    drain: { delay: '0s', window: '500ms', grace: '2s' },
    listeners: listeners?.({ port, plainPort, certificates }) ?? [tlsListener(port, certificates), plainListener(plainPort)],
    ...rest,
    limits: { max_packet_size: '32 MiB', connections: 4000, ...rest.limits },
  };
  writeFileSync(file, toml(full));

  const server = new Server('brokergate', binary, ['run', '--config', file]);
  const admin = `http://127.0.0.1:${adminPort}`;
  await Promise.race([
    eventually('brokergate ready', async () => (await fetch(`${admin}/ready`)).status === 200, { ms: 15_000 }),
    server.exited.then(({ code, signal }) => {
      throw new Error(`brokergate ended before it was ready (${signal ?? code})\n${server.tail().join('\n')}`);
    }),
  ]);

  return {
    name: 'brokergate',
    server,
    file,
    port,
    plainPort,
    admin,
    tls: certificates,
    url: (at = '/mqtt', host = 'localhost') => `wss://${host}:${port}${at}`,
    plainUrl: (at = '/mqtt', host = 'localhost') => `ws://${host}:${plainPort}${at}`,
    metrics: async () => parseMetrics(await (await fetch(`${admin}/metrics`)).text()),
    /** Who is connected, a line each, or why that can't be told. */
    sessions: async () => {
      try {
        const headers = adminToken ? { authorization: `Bearer ${adminToken}` } : {};
        const answer = await fetch(`${admin}/sessions`, { headers, signal: AbortSignal.timeout(5000) });
        return (await answer.json()).sessions.map((session) => JSON.stringify(session));
      } catch (error) {
        return [`no sessions are told: ${error}`];
      }
    },
    /** SIGTERM: drain, then exit. Its exit code. */
    terminate: async () => (await server.stop({ signal: 'SIGTERM', ms: 20_000 })).code,
    stop: () => (server.end ? server.end : server.stop({ signal: 'SIGKILL' })),
  };
}

export function tlsListener(port, { chain, key }) {
  return { addresses: loopbacks.map((host) => `${host}:${port}`), tls: { certificates: [{ chain, key }] } };
}

export function plainListener(port) {
  return { addresses: loopbacks.map((host) => `${host}:${port}`) };
}

/** The route `/mqtt` to one upstream: what most cases need. */
export function oneUpstream(endpoints, { upstream = {}, ...rest } = {}) {
  return {
    routes: [{ path: '/mqtt', upstream: 'brokers' }],
    upstreams: { brokers: { ...upstream, endpoints: endpoints.map((it) => (typeof it === 'string' ? { url: it } : it)) } },
    ...rest,
  };
}

/** Samples of a Prometheus page: `{ name, labels, value, type }`. */
export function parseMetrics(page) {
  const types = new Map();
  const samples = [];
  for (const line of page.split('\n')) {
    const type = /^# TYPE (\S+) (\S+)/.exec(line);
    if (type) types.set(type[1], type[2]);
    const sample = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (!sample) continue;
    const [, name, inside = '', value] = sample;
    const labels = Object.fromEntries([...inside.matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, key, text]) => [key, text]));
    samples.push({ name, labels, value: Number(value), type: types.get(name) });
  }
  return samples;
}

function toml(document) {
  const lines = [];
  const sections = [];
  for (const [key, value] of Object.entries(document)) {
    if (Array.isArray(value) && value.some((item) => typeof item === 'object')) {
      for (const item of value) sections.push(`[[${key}]]`, ...pairs(item), '');
    } else if (key === 'upstreams') {
      for (const [name, upstream] of Object.entries(value)) sections.push(`[upstreams.${name}]`, ...pairs(upstream), '');
    } else if (typeof value === 'object' && !Array.isArray(value)) {
      sections.push(`[${key}]`, ...pairs(value), '');
    } else {
      lines.push(`${key} = ${inline(value)}`);
    }
  }
  return [...lines, '', ...sections].join('\n');
}

const pairs = (table) => Object.entries(table).map(([key, value]) => `${key} = ${inline(value)}`);

function inline(value) {
  if (Array.isArray(value)) return `[${value.map(inline).join(', ')}]`;
  if (typeof value !== 'object') return JSON.stringify(value);
  return `{ ${Object.entries(value).map(([key, inner]) => `${JSON.stringify(key)} = ${inline(inner)}`).join(', ')} }`;
}
