// Every client behind one set of words:
//
//   const client = await connect('MQTT.js 5', { url, tls, clientId, version, clean, keepalive, will })
//   await client.subscribe(topic, qos)
//   await client.publish(topic, payload, { qos, retain })
//   const { topic, payload, qos, retain } = await client.next('what it is')
//   await client.end()     says DISCONNECT
//   client.vanish()        is gone without a word, as a phone in a tunnel is
//   await client.closed    the connection's end, however it came

import { connectMqttJs } from './client-mqttjs.js';
import { connectPahoJs } from './client-paho-js.js';
import { connectRemote } from './client-remote.js';

/** What each client is called, the protocol levels it speaks, and how it connects. */
export const clients = {
  'MQTT.js 5': { versions: [3, 4, 5], connect: (options) => connectMqttJs('mqtt5', options) },
  'MQTT.js 4': { versions: [3, 4, 5], connect: (options) => connectMqttJs('mqtt4', options) },
  'MQTT.js 3': { versions: [3, 4], connect: (options) => connectMqttJs('mqtt3', options) },
  'Paho JavaScript': { versions: [3, 4], connect: connectPahoJs },
  'paho-mqtt (Python)': { versions: [4, 5], connect: (options) => connectRemote('python', options) },
  'WeChat (MQTT.js 5 wxs)': { versions: [4, 5], connect: (options) => connectRemote('wechat', options) },
};

let counter = 0;

/** Connects a client of that kind; by default MQTT 3.1.1, a clean session, keepalive 60 s. */
export function connect(kind, options) {
  counter += 1;
  return clients[kind].connect({
    clientId: `interop-${process.pid}-${counter}`,
    version: 4,
    clean: true,
    keepalive: 60,
    ...options,
  });
}
