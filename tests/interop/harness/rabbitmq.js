// Debian's RabbitMQ as a private node: its own folder, its own epmd, loopback alone.

import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { freePort } from './ports.js';
import { run, Server } from './server.js';
import { eventually } from './wait.js';

const program = '/usr/lib/rabbitmq/bin/rabbitmq-server';

/** With `proxyProtocol` both its MQTT listeners want a PROXY preamble first. */
export async function startRabbitmq({ folder, name = 'rabbitmq', proxyProtocol = false }) {
  const [tcp, ws, distribution, names] = [await freePort(), await freePort(), await freePort(), await freePort()];
  const home = path.join(folder, name);
  mkdirSync(home, { recursive: true });
  const file = (leaf, text) => {
    writeFileSync(path.join(home, leaf), text);
    return path.join(home, leaf);
  };
  const environment = {
    HOME: home,
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_EPMD_PORT: String(names),
    ERL_CRASH_DUMP_SECONDS: '0',
    RABBITMQ_NODENAME: `${name}@localhost`,
    RABBITMQ_MNESIA_BASE: path.join(home, 'mnesia'),
    RABBITMQ_LOG_BASE: path.join(home, 'log'),
    RABBITMQ_LOGS: '-',
    RABBITMQ_PID_FILE: path.join(home, 'pid'),
    RABBITMQ_FEATURE_FLAGS_FILE: path.join(home, 'feature_flags'),
    RABBITMQ_DIST_PORT: String(distribution),
    RABBITMQ_CONF_ENV_FILE: file('rabbitmq-env.conf', ''),
    RABBITMQ_ADVANCED_CONFIG_FILE: path.join(home, 'advanced.config'),
    RABBITMQ_ENABLED_PLUGINS_FILE: file('enabled_plugins', '[rabbitmq_mqtt,rabbitmq_web_mqtt].\n'),
    RABBITMQ_CONFIG_FILE: file('rabbitmq.conf', `
listeners.tcp = none
loopback_users = none
log.console = true
log.console.level = debug
log.file = false
mqtt.listeners.tcp.1 = 127.0.0.1:${tcp}
mqtt.allow_anonymous = true
mqtt.proxy_protocol = ${proxyProtocol}
web_mqtt.tcp.ip = 127.0.0.1
web_mqtt.tcp.port = ${ws}
web_mqtt.ws_opts.idle_timeout = 3600000
web_mqtt.proxy_protocol = ${proxyProtocol}
`),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: '-kernel inet_dist_use_interface {127,0,0,1}',
    // The script then becomes the Erlang machine, so that the pid is its pid.
    RUNNING_UNDER_SYSTEMD: 'true',
  };

  const epmd = new Server(`${name}'s epmd`, 'epmd', ['-address', '127.0.0.1', '-port', String(names)]);
  await eventually(`epmd of ${name}`, () => run('epmd', ['-port', String(names), '-names']));
  const server = new Server(name, program, [], { env: environment, cwd: home });
  await server.line(/Server startup complete/, { ms: 120_000 });
  return {
    name,
    server,
    mqtt: `mqtt://127.0.0.1:${tcp}`,
    ws: `ws://127.0.0.1:${ws}/ws`,
    versions: [3, 4],
    // Its MQTT plugin takes a subscription of QoS 2 as one of 1.
    maxQos: 1,
    stop: async () => {
      await server.stop({ signal: 'SIGKILL' });
      await epmd.stop({ signal: 'SIGKILL' });
    },
  };
}
