// The process that `aedes.js` starts. It reports its ports, and on request the ClientIDs it has accepted.

import http from 'node:http';
import net from 'node:net';

import { Aedes } from 'aedes';
import { createWebSocketStream, WebSocketServer } from 'ws';

const broker = await Aedes.createBroker();
const accepted = [];

broker.on('clientReady', (client) => {
  accepted.push(client.id);
  console.log('accepted', client.id);
});
broker.on('clientDisconnect', (client) => console.log('gone', client.id));
broker.on('clientError', (client, error) => console.log('client error', client.id, error.message));
broker.on('connectionError', (client, error) => console.log('connection error', error.message));

const tcp = net.createServer(broker.handle);
const web = http.createServer();
new WebSocketServer({ server: web, maxPayload: 64 * 1024 * 1024 }).on('connection', (socket, request) => {
  console.log('websocket from', request.socket.remotePort);
  broker.handle(createWebSocketStream(socket), request);
});

const listen = (server) => new Promise((resolve) => {
  server.listen(0, '127.0.0.1', () => resolve(server.address().port));
});

process.on('message', () => process.send({ sessions: accepted }));
process.on('disconnect', () => process.exit());
process.send({ ports: { tcp: await listen(tcp), ws: await listen(web) } });
