// What a case works with: brokers shared by all, gateways and brokers of its own, and its cleaning up.

import { startAedes } from './aedes.js';
import { connect } from './clients.js';
import { openMqttJs } from './client-mqttjs.js';
import { startGateway } from './gateway.js';
import { startMosquitto } from './mosquitto.js';
import { startRabbitmq } from './rabbitmq.js';

/** Servers that many cases share: started when first asked for, stopped at the end. */
export class Shared {
  #started = new Map();

  constructor({ folder, certificates, direct }) {
    Object.assign(this, { folder, certificates, direct });
  }

  #once(name, start) {
    if (!this.#started.has(name)) {
      const promise = start();
      promise.catch(() => {});
      this.#started.set(name, promise);
    }
    return this.#started.get(name);
  }

  mosquitto = () => this.#once('mosquitto', () => startMosquitto({ folder: this.folder }));
  aedes = () => this.#once('aedes', () => startAedes());
  rabbitmq = () => this.#once('rabbitmq', () => startRabbitmq({ folder: this.folder }));

  /** One gateway, one route a broker and transport: what the matrix of clients goes through. */
  gateway = () => this.#once('gateway', async () => {
    const [mosquitto, aedes, rabbitmq] = await Promise.all([this.mosquitto(), this.aedes(), this.rabbitmq()]);
    const endpoints = {
      'mosquitto-ws': mosquitto.ws,
      'mosquitto-tcp': mosquitto.mqtt,
      'aedes-ws': aedes.ws,
      'aedes-tcp': aedes.mqtt,
      'rabbitmq-ws': rabbitmq.ws,
      'rabbitmq-tcp': rabbitmq.mqtt,
    };
    return startGateway({
      ...this,
      config: {
        routes: Object.keys(endpoints).map((name) => ({ path: `/${name}`, upstream: name })),
        upstreams: Object.fromEntries(Object.entries(endpoints).map(([name, url]) => [name, { endpoints: [{ url }] }])),
      },
    });
  });

  /** The URL at which a client finds a broker: through the gateway or, to prove a case itself, without it. */
  async url(broker) {
    if (!this.direct) return (await this.gateway()).url(`/${broker}`);
    return (await this[broker.replace(/-.*/, '')]()).ws;
  }

  async running() {
    const settled = await Promise.allSettled(this.#started.values());
    return settled.filter(({ status }) => status === 'fulfilled').map(({ value }) => value);
  }

  async stop() {
    const servers = await this.running();
    await Promise.allSettled(servers.map((server) => server.stop()));
  }
}

export class Context {
  #cleaning = [];
  #watched = [];

  constructor(shared, it) {
    this.shared = shared;
    this.case = it;
    this.tls = shared.certificates;
  }

  defer(action) {
    this.#cleaning.push(action);
  }

  /** A server whose log is shown when the case fails. */
  watch(server) {
    this.#watched.push(server);
    return server;
  }

  async #own(server) {
    this.defer(() => server.stop());
    return this.watch(server);
  }

  gateway = async (config) => this.#own(await startGateway({ ...this.shared, config }));
  ownMosquitto = async (name) => this.#own(await startMosquitto({ folder: this.shared.folder, name }));
  ownAedes = async (name) => this.#own(await startAedes({ name }));
  ownRabbitmq = async (options) => this.#own(await startRabbitmq({ folder: this.shared.folder, ...options }));

  async mosquitto() {
    return this.watch(await this.shared.mosquitto());
  }

  async aedes() {
    return this.watch(await this.shared.aedes());
  }

  /** Where the matrix's client finds the matrix's broker. */
  async url(broker) {
    const url = await this.shared.url(broker);
    if (!this.shared.direct) this.watch(await this.shared.gateway());
    this.watch(await this.shared[broker.replace(/-.*/, '')]());
    return url;
  }

  async connect(kind, options) {
    const client = await connect(kind, { tls: this.tls, ...options });
    this.defer(() => (client.library ? client.library.end(true) : client.vanish()));
    return client;
  }

  /** An MQTT.js client that may fail, or come back by itself. */
  open(options, library = 'mqtt5') {
    const client = openMqttJs(library, { tls: this.tls, version: 4, clean: true, keepalive: 60, clientId: this.name('client'), ...options });
    this.defer(() => client.library.end(true));
    return client;
  }

  #names = 0;

  /** A name nobody else uses. */
  name(stem = 'topic') {
    this.#names += 1;
    return `${stem}-${this.case.number}-${this.#names}`;
  }

  tails() {
    return [...new Set(this.#watched)].map(({ name, server }) => ({ name, tail: server.tail() }));
  }

  async cleanUp() {
    for (const action of this.#cleaning.reverse()) {
      try {
        await action();
      } catch {
        // A client that is gone already has nothing to say; servers are killed at the end in any case.
      }
    }
  }
}
