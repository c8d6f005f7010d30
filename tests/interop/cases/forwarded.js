// What a broker learns about the client: over WebSocket by headers, over TCP by the PROXY protocol.

import assert from 'node:assert/strict';
import net from 'node:net';
import tls from 'node:tls';

import { oneUpstream, tlsListener } from '../harness/gateway.js';
import { loopbacks } from '../harness/ports.js';
import { connectPacket, exchange, RawClient, upgradeRequest } from '../harness/raw.js';
import { preambleV2, startHeaderBroker, startPreambleBroker } from '../harness/upstream.js';

/** A gateway before a broker of straw, and what that broker was told of a client that came as `how` says. */
async function told(t, { config = {}, upstream = {}, headers = {}, ...address } = {}) {
  const broker = await startHeaderBroker();
  t.defer(broker.stop);
  const gateway = await t.gateway(oneUpstream([broker.url], { upstream, ...config }));
  const client = await RawClient.open({ port: gateway.port, trust: t.tls, headers: { Host: `app.example.org:${gateway.port}`, ...headers }, ...address });
  t.defer(() => client.destroy());
  client.send(connectPacket('weather-station', { username: 'meteo' }));
  await client.nextPacket('CONNACK');
  const { headers: heard, raw } = await broker.request();
  return { heard, raw, gateway, port: client.socket.localPort };
}

const forwarded = (name, run, more = {}) => ({ name, broker: 'of straw', client: 'by hand', run, ...more });

const forgeries = {
  'X-Real-IP': '192.0.2.66',
  'X-Forwarded-For': '192.0.2.66, 192.0.2.67',
  'X-Forwarded-Proto': 'gopher',
  'X-Forwarded-Host': 'evil.example.net',
  'X-Forwarded-Port': '66',
};

function assertTold({ heard, raw, gateway, port }, { address, sourcePort = port }) {
  assert.deepEqual({
    'x-real-ip': heard['x-real-ip'],
    'x-forwarded-for': heard['x-forwarded-for'],
    'x-forwarded-proto': heard['x-forwarded-proto'],
    'x-forwarded-port': heard['x-forwarded-port'],
    host: heard.host,
  }, {
    'x-real-ip': address,
    'x-forwarded-for': address,
    'x-forwarded-proto': 'https',
    'x-forwarded-port': String(sourcePort),
    host: `app.example.org:${gateway.port}`,
  });
  assert.match(heard['x-forwarded-host'], /^app\.example\.org(:\d+)?$/);
  // Each stands there once: a broker that reads the first and one that reads the last agree.
  const names = raw.filter((_, index) => index % 2 === 0).map((it) => it.toLowerCase());
  for (const header of Object.keys(forgeries)) assert.equal(names.filter((it) => it === header.toLowerCase()).length, 1, header);
}

export default [
  forwarded('an honest client: its address and its port', async (t) => {
    assertTold(await told(t, { localAddress: '127.0.0.7' }), { address: '127.0.0.7' });
  }),
  forwarded('an honest client over IPv6', async (t) => {
    assert.ok(loopbacks.length === 2, 'this machine has no ::1');
    assertTold(await told(t, { host: '::1' }), { address: '::1' });
  }),
  forwarded('a client that forges every header: none of it passes', async (t) => {
    assertTold(await told(t, { headers: forgeries, localAddress: '127.0.0.7' }), { address: '127.0.0.7' });
  }),
  forwarded('behind a trusted proxy: the rightmost address that is not trusted', async (t) => {
    const { heard } = await told(t, {
      config: { trusted_proxies: ['127.0.0.0/8', '198.51.100.0/24'] },
      headers: { 'X-Forwarded-For': '192.0.2.66, 203.0.113.9, 198.51.100.3' },
    });
    assert.equal(heard['x-real-ip'], '203.0.113.9');
    // What stands left of it was forged. The trusted proxies may follow it: brokers read the leftmost.
    assert.equal(heard['x-forwarded-for'].split(',')[0], '203.0.113.9');
  }),
  forwarded('a client that is not in trusted_proxies is not believed', async (t) => {
    const answer = await told(t, { config: { trusted_proxies: ['198.51.100.0/24'] }, headers: forgeries });
    assertTold(answer, { address: '127.0.0.1' });
  }),
  forwarded('forwarded_for = "address-port"', async (t) => {
    const { heard, port } = await told(t, { upstream: { forwarded: { forwarded_for: 'address-port' } } });
    assert.equal(heard['x-forwarded-for'], `127.0.0.1:${port}`);
    assert.equal(heard['x-real-ip'], '127.0.0.1');
  }),
  forwarded('forwarded.cookie, and forwarded.port = "listener"', async (t) => {
    const { heard, gateway } = await told(t, {
      upstream: { forwarded: { cookie: true, port: 'listener' } }, headers: { Cookie: 'session=1' },
    });
    assert.equal(heard.cookie, 'session=1');
    assert.equal(heard['x-forwarded-port'], String(gateway.port));
  }),
  forwarded('set_headers: templates with facts of the client', async (t) => {
    const { heard } = await told(t, { upstream: { forwarded: { set_headers: { 'X-Device': '{client_id} at {client_address}', 'X-User': '{username}' } } } });
    assert.equal(heard['x-device'], 'weather-station at 127.0.0.1');
    assert.equal(heard['x-user'], 'meteo');
  }),
  forwarded('the endpoint\'s own path, and its subprotocol whatever the client\'s', async (t) => {
    const { heard } = await told(t, { headers: { 'Sec-WebSocket-Protocol': 'mqttv3.1' } });
    assert.equal(heard['sec-websocket-protocol'], 'mqtt');
    const bare = await told(t, { headers: { 'Sec-WebSocket-Protocol': undefined } });
    assert.equal(bare.heard['sec-websocket-protocol'], 'mqtt');
  }),

  forwarded('PROXY v2 before TLS, from a trusted proxy', async (t) => {
    const broker = await startHeaderBroker();
    t.defer(broker.stop);
    const gateway = await t.gateway(behindProxy([broker.url], ['127.0.0.0/8']));
    const client = await openBehindProxy(t, gateway, preambleV2({ source: '203.0.113.9', sourcePort: 4711 }));
    client.send(connectPacket(t.name('afar')));
    await client.nextPacket('CONNACK');
    const { headers } = await broker.request();
    assert.equal(headers['x-real-ip'], '203.0.113.9');
    assert.equal(headers['x-forwarded-for'], '203.0.113.9');
    assert.equal(headers['x-forwarded-port'], '4711');
  }),
  forwarded('PROXY v1 before TLS, from a trusted proxy', async (t) => {
    const broker = await startHeaderBroker();
    t.defer(broker.stop);
    const gateway = await t.gateway(behindProxy([broker.url], ['127.0.0.0/8']));
    const client = await openBehindProxy(t, gateway, Buffer.from('PROXY TCP6 2001:db8::9 2001:db8::1 4712 443\r\n'));
    client.send(connectPacket(t.name('afar')));
    await client.nextPacket('CONNACK');
    const { headers } = await broker.request();
    assert.equal(headers['x-real-ip'], '2001:db8::9');
    assert.equal(headers['x-forwarded-port'], '4712');
  }),
  forwarded('PROXY v2 from somebody who is not trusted is no way in', async (t) => {
    const broker = await startHeaderBroker();
    t.defer(broker.stop);
    const gateway = await t.gateway(behindProxy([broker.url], ['198.51.100.0/24']));
    await assert.rejects(openBehindProxy(t, gateway, preambleV2({ source: '203.0.113.9', sourcePort: 4711 })));
  }),

  ...['v1', 'v2'].flatMap((version) => [['127.0.0.1', 'TCP4'], ['::1', 'TCP6']].map(([host, family]) =>
    forwarded(`PROXY ${version} toward a TCP broker, ${family}`, async (t) => {
      const broker = await startPreambleBroker();
      t.defer(broker.stop);
      const gateway = await t.gateway(oneUpstream([{ url: broker.url, proxy_protocol: version }]));
      const client = await RawClient.open({ host, port: gateway.port, trust: t.tls });
      t.defer(() => client.destroy());
      client.send(connectPacket(t.name('named')));
      await client.nextPacket('CONNACK');
      const preamble = await broker.preamble();
      assert.equal(preamble.version, Number(version.slice(1)));
      assert.equal(preamble.sourcePort, client.socket.localPort);
      if (family === 'TCP4') assert.deepEqual([preamble.family, preamble.source], ['TCP4', '127.0.0.1']);
      else assert.ok(preamble.family === 'TCP6' && ['::1', '0:0:0:0:0:0:0:1'].includes(preamble.source), preamble.source);
      if (version === 'v2') {
        // PP2_TYPE_AUTHORITY, and inside PP2_TYPE_SSL the version: what TLS told us.
        assert.equal(preamble.tlvs.get(0x02)?.toString(), 'localhost');
        assert.match(preamble.tlvs.get(0x20)?.toString('latin1') ?? '', /TLSv1\.3/);
      }
    }))),

  {
    name: 'RabbitMQ sees the client\'s address by PROXY v1 over TCP and v2 over WebSocket',
    broker: 'rabbitmq-ws',
    client: 'MQTT.js 5',
    ms: 120_000,
    when: 'throughout',
    async run(t) {
      const rabbitmq = await t.ownRabbitmq({ name: 'rabbitmq-proxy', proxyProtocol: true });
      for (const [url, version, host] of [[rabbitmq.mqtt, 'v1', 21], [rabbitmq.ws, 'v2', 22]]) {
        const gateway = await t.gateway(oneUpstream([{ url, proxy_protocol: version }]));
        const address = `127.0.0.${host}`;
        const client = await t.connect('MQTT.js 5', { url: gateway.url('/mqtt', '127.0.0.1'), localAddress: address });
        const { localPort } = client.sockets.at(-1);
        await rabbitmq.server.line(new RegExp(`accepting .*MQTT connection.*${address.replaceAll('.', '\\.')}:${localPort}`));
        await client.end();
      }
    },
  },
];

function behindProxy(endpoints, trusted) {
  return {
    ...oneUpstream(endpoints),
    trusted_proxies: trusted,
    listeners: ({ port, certificates }) => [{ ...tlsListener(port, certificates), proxy_protocol: true }],
  };
}

/** A client as it arrives through a load balancer: a preamble in the clear, then TLS. */
async function openBehindProxy(t, gateway, preamble) {
  const plain = net.connect({ host: '127.0.0.1', port: gateway.port });
  t.defer(() => plain.destroy());
  plain.write(preamble);
  const socket = tls.connect({ socket: plain, ca: t.tls.ca, servername: 'localhost', ALPNProtocols: ['http/1.1'] });
  await new Promise((resolve, reject) => {
    socket.once('secureConnect', resolve);
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed before TLS stood')));
  });
  const answer = await exchange(socket, upgradeRequest('/mqtt'));
  assert.equal(answer.status, 101, answer.body);
  return new RawClient(socket, answer, 4);
}
