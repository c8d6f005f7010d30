// What a case works with: brokers shared by all, gateways and brokers of its own, and its cleaning up.

import { startAedes } from './aedes.js';
import { startChromium } from './browser.js';
import { connect } from './clients.js';
import { openMqttJs } from './client-mqttjs.js';
import { oneUpstream, startGateway } from './gateway.js';
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
  chromium = () => this.#once('chromium', () => startChromium({ folder: this.folder, spki: [this.certificates.spki] }));

  /** The gateway before one broker: what the matrix of clients goes through. */
  gateway = (broker) => this.#once(`gateway to ${broker}`, async () => {
    const [name, transport] = broker.split('-');
    const endpoint = (await this[name]())[transport === 'tcp' ? 'mqtt' : 'ws'];
    return startGateway({ ...this, config: oneUpstream([endpoint]) });
  });

  /** The URL at which a client finds a broker: through the gateway or, to prove a case itself, without it. */
  async url(broker) {
    return this.direct ? (await this[broker.split('-')[0]]()).ws : (await this.gateway(broker)).url();
  }

  /** Starts the brokers that these cases share, so that no case waits for them. */
  async warmUp(cases) {
    const names = ['mosquitto', 'aedes', 'rabbitmq'].filter((name) => cases.some(({ broker }) => broker?.startsWith(name)));
    await Promise.allSettled(names.map((name) => this[name]()));
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
  ownMosquitto = async (name, ports) => this.#own(await startMosquitto({ folder: this.shared.folder, name, ...ports }));
  ownAedes = async (name) => this.#own(await startAedes({ name }));
  ownRabbitmq = async (options) => this.#own(await startRabbitmq({ folder: this.shared.folder, ...options }));

  /** Every gateway that cases have shared until now. */
  async sharedGateways() {
    return (await this.shared.running()).filter(({ name }) => name === 'brokergate').map((it) => this.watch(it));
  }

  async mosquitto() {
    return this.watch(await this.shared.mosquitto());
  }

  async aedes() {
    return this.watch(await this.shared.aedes());
  }

  async rabbitmq() {
    return this.watch(await this.shared.rabbitmq());
  }

  chromium() {
    return this.shared.chromium();
  }

  /** Where the matrix's client finds the matrix's broker. */
  async url(broker) {
    this.watch(await this.shared[broker.split('-')[0]]());
    if (!this.shared.direct) this.watch(await this.shared.gateway(broker));
    return this.shared.url(broker);
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

  /** For a case that failed: what the servers it touched wrote last, and wrote about it; of a gateway, who is there and what was moved. */
  tails() {
    return Promise.all([...new Set(this.#watched)].map(async ({ name, server, sessions }) => ({
      name,
      tail: [...server.tail(), ...server.about(`-${this.case.number}-`), ...(sessions ? await sessions() : [])],
    })));
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
