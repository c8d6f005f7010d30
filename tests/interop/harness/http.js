// Plain requests over TLS, with the path sent as it is written.

import http from 'node:http';
import https from 'node:https';

import { within } from './wait.js';

export function request({ port, at, method = 'GET', headers = {}, trust, host = 'localhost', body }) {
  const { request: start } = trust ? https : http;
  return within(10_000, `an answer to ${method} ${at}`, new Promise((resolve, reject) => {
    const asked = start({ host, port, path: at, method, headers, ca: trust?.ca, agent: false }, (response) => {
      const chunks = [];
      response.on('data', (chunk) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const bytes = Buffer.concat(chunks);
        resolve({ status: response.statusCode, headers: response.headers, bytes, body: bytes.toString('utf8') });
      });
    });
    asked.on('error', reject);
    asked.end(body);
  }));
}
