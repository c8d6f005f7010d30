// CONNECT in every shape in which it may arrive.

import assert from 'node:assert/strict';

import { oneUpstream } from '../harness/gateway.js';
import { connectPacket, frame, packet, RawClient } from '../harness/raw.js';
import { pause } from '../harness/wait.js';

const brokers = {
  'mosquitto-ws': async (t) => (await t.mosquitto()).ws,
  'mosquitto-tcp': async (t) => (await t.mosquitto()).mqtt,
  'aedes-ws': async (t) => (await t.aedes()).ws,
};

const shapes = {
  'CONNECT in one frame a byte': (client, bytes) => {
    for (const byte of bytes) client.send(Buffer.from([byte]));
  },
  'CONNECT in one fragment a byte of one message': (client, bytes) => {
    bytes.forEach((byte, index) => client.send(Buffer.from([byte]), { opcode: index === 0 ? 2 : 0, final: index === bytes.length - 1 }));
  },
  'CONNECT with an empty frame and a ping before each byte': (client, bytes) => {
    for (const byte of bytes) {
      client.send(Buffer.alloc(0));
      client.send(Buffer.from('?'), { opcode: 9 });
      client.send(Buffer.from([byte]));
    }
  },
  'CONNECT in one TLS record and TCP segment a byte': async (client, bytes) => {
    for (const byte of frame(bytes)) {
      client.socket.write(Buffer.from([byte]));
      // What was written before is on its way by then: a segment of its own, since Nagle is off.
      await pause(1);
    }
  },
};

const inPieces = (broker, shape) => ({
  name: shape,
  broker,
  client: 'by hand',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([await brokers[broker](t)]));
    const client = await RawClient.open({ port: gateway.port, trust: t.tls });
    t.defer(() => client.destroy());
    await shapes[shape](client, connectPacket(t.name('pieces')));
    assert.equal((await client.nextPacket('CONNACK')).returnCode, 0);
    const topic = t.name();
    client.send(packet({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 0 }] }));
    assert.equal((await client.nextPacket('SUBACK')).cmd, 'suback');
    client.send(packet({ cmd: 'publish', topic, payload: 'through', qos: 0 }));
    assert.equal((await client.nextPacket('the message')).payload.toString(), 'through');
  },
});

const everySplit = {
  name: 'CONNECT cut in two at every byte, in frames and in segments',
  broker: 'mosquitto-tcp',
  client: 'by hand',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
    const { length } = connectPacket('cut-00');
    const tryOne = async (cut, write) => {
      const client = await RawClient.open({ port: gateway.port, trust: t.tls });
      try {
        await write(client, connectPacket(`cut-${String(cut).padStart(2, '0')}`));
        assert.equal((await client.nextPacket(`CONNACK after a cut at ${cut}`)).returnCode, 0);
      } finally {
        client.destroy();
      }
    };
    for (let cut = 1; cut < length; cut += 1) {
      await tryOne(cut, (client, bytes) => {
        client.send(bytes.subarray(0, cut));
        client.send(bytes.subarray(cut));
      });
    }
    for (let cut = 1; cut < length + 6; cut += 1) {
      await tryOne(cut, async (client, bytes) => {
        const whole = frame(bytes);
        client.socket.write(whole.subarray(0, cut));
        await pause(2);
        client.socket.write(whole.subarray(cut));
      });
    }
  },
};

const together = {
  'in one frame': (client, packets) => client.send(Buffer.concat(packets)),
  'in one message of three fragments, cut inside packets': (client, packets) => {
    const bytes = Buffer.concat(packets);
    client.send(bytes.subarray(0, 9), { final: false });
    client.send(bytes.subarray(9, packets[0].length + 5), { opcode: 0, final: false });
    client.send(bytes.subarray(packets[0].length + 5), { opcode: 0 });
  },
  'in three frames at once': (client, packets) => client.socket.write(Buffer.concat(packets.map((it) => frame(it)))),
};

function* pipelines() {
  for (const broker of Object.keys(brokers)) {
    for (const [how, send] of Object.entries(together)) {
      yield {
        name: `CONNECT, SUBSCRIBE and PUBLISH ${how}`,
        broker,
        client: 'by hand',
        async run(t) {
          const gateway = await t.gateway(oneUpstream([await brokers[broker](t)]));
          const client = await RawClient.open({ port: gateway.port, trust: t.tls });
          t.defer(() => client.destroy());
          const topic = t.name();
          send(client, threePackets(t, topic));
          assert.equal((await client.nextPacket('CONNACK')).returnCode, 0);
          const rest = [await client.nextPacket('SUBACK or the message'), await client.nextPacket('the other')];
          assert.deepEqual(rest.map(({ cmd }) => cmd).sort(), ['publish', 'suback']);
        },
      };
    }
  }
}

const threePackets = (t, topic) => [
  connectPacket(t.name('eager')),
  packet({ cmd: 'subscribe', messageId: 1, subscriptions: [{ topic, qos: 0 }] }),
  packet({ cmd: 'publish', topic, payload: 'early', qos: 0 }),
];

const withTheRequest = {
  name: 'CONNECT, SUBSCRIBE and PUBLISH sent right behind the upgrade request',
  broker: 'mosquitto-tcp',
  client: 'by hand',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).mqtt]));
    const early = Buffer.concat(threePackets(t, t.name()).map((it) => frame(it)));
    const client = await RawClient.open({ port: gateway.port, trust: t.tls, early });
    t.defer(() => client.destroy());
    assert.equal((await client.nextPacket('CONNACK')).returnCode, 0);
    const rest = [await client.nextPacket('SUBACK or the message'), await client.nextPacket('the other')];
    assert.deepEqual(rest.map(({ cmd }) => cmd).sort(), ['publish', 'suback']);
  },
};

const notConnect = {
  name: 'a first packet that is no CONNECT never reaches a broker',
  broker: 'mosquitto-tcp',
  client: 'by hand',
  async run(t) {
    const mosquitto = await t.ownMosquitto();
    const gateway = await t.gateway(oneUpstream([mosquitto.mqtt]));
    for (const bytes of [packet({ cmd: 'publish', topic: 'a', payload: 'b' }), Buffer.from('GET / HTTP/1.1\r\n\r\n'), Buffer.alloc(64, 0xff)]) {
      const client = await RawClient.open({ port: gateway.port, trust: t.tls });
      client.send(bytes);
      const { code } = await client.nextClose();
      assert.ok([1002, 1003, 1007, 1008].includes(code), `closed with ${code}`);
      client.destroy();
    }
    assert.deepEqual(mosquitto.server.tail(1000).filter((line) => /New connection/.test(line)), []);
  },
};

const textFrame = {
  name: 'a text frame is closed with 1003, an unmasked one with 1002',
  broker: 'mosquitto-ws',
  client: 'by hand',
  async run(t) {
    const gateway = await t.gateway(oneUpstream([(await t.mosquitto()).ws]));
    for (const [options, wanted] of [[{ opcode: 1 }, 1003], [{ masked: false }, 1002], [{ opcode: 3 }, 1002]]) {
      const client = await RawClient.open({ port: gateway.port, trust: t.tls });
      client.send(connectPacket(t.name('rude')));
      await client.nextPacket('CONNACK');
      client.send(packet({ cmd: 'pingreq' }), options);
      assert.equal((await client.nextClose()).code, wanted);
      client.destroy();
    }
  },
};

function* pieces() {
  for (const broker of Object.keys(brokers)) for (const shape of Object.keys(shapes)) yield inPieces(broker, shape);
}

export default [...pieces(), everySplit, ...pipelines(), withTheRequest, notConnect, textFrame];
