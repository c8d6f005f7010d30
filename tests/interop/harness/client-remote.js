// Clients that need a process of their own: one JSON object a line, orders in, events out.

import { fileURLToPath } from 'node:url';

import { Server } from './server.js';
import { Inbox, within } from './wait.js';

const here = (name) => fileURLToPath(new URL(name, import.meta.url));
const programs = {
  python: [here('../.venv/bin/python'), [here('./client_paho.py')]],
  wechat: [process.execPath, [here('./client-wechat.js')]],
};

export async function connectRemote(program, { tls: trust, will, ...options }) {
  const [command, args] = programs[program];
  const server = new Server(`${program} client`, command, args, { stdin: 'pipe' });
  const inbox = new Inbox();
  const answers = new Inbox();
  let closing;
  const closed = new Promise((resolve) => {
    closing = resolve;
  });
  listen(server, (event) => {
    if (event.event === 'message') {
      inbox.put({ topic: event.topic, payload: Buffer.from(event.payload, 'base64'), qos: event.qos, retain: event.retain });
    } else if (event.event === 'closed') {
      inbox.end(`the connection closed (${event.reason})`);
      closing(event.reason);
    } else {
      answers.put(event);
    }
  });
  server.exited.then(() => {
    answers.end(`the ${program} client ended\n${server.tail(10).join('\n')}`);
    inbox.end('the client ended');
    closing('the client ended');
  });

  let orders = 0;
  const ask = async (order, fields = {}) => {
    orders += 1;
    const id = orders;
    server.child.stdin.write(`${JSON.stringify({ id, order, ...fields })}\n`);
    const answer = await answers.next(`${order} by the ${program} client`, { ms: 25_000, wanted: (event) => event.id === id });
    if (answer.error) throw new Error(`${order} by the ${program} client: ${answer.error}`);
    return answer;
  };
  const leave = () => server.stop({ signal: 'SIGKILL' });

  try {
    await ask('connect', {
      ...options,
      ca: trust?.caFile,
      will: will && { ...will, payload: Buffer.from(will.payload).toString('base64') },
    });
  } catch (error) {
    await leave();
    throw error;
  }
  return {
    clientId: options.clientId,
    closed,
    inbox,
    next: (what, settings) => inbox.next(what, settings),
    subscribe: async (topic, qos = 0) => (await ask('subscribe', { topic, qos })).granted,
    publish: (topic, payload, { qos = 0, retain = false } = {}) =>
      ask('publish', { topic, qos, retain, payload: Buffer.from(payload).toString('base64') }),
    end: async () => {
      await ask('end');
      await within(10_000, 'the end of the client', closed);
      await leave();
    },
    // The kernel closes a killed process's sockets: no DISCONNECT, no close frame, no close_notify.
    vanish: () => server.kill('SIGKILL'),
  };
}

// Events are on stdout alone: what a library prints to stderr stays in the log.
function listen(server, hear) {
  let rest = '';
  server.child.stdout.on('data', (text) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop();
    for (const line of lines) if (line.startsWith('{')) hear(JSON.parse(line));
  });
}
