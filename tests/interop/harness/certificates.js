// A certificate authority for this run, and a server certificate for localhost from it.

import { createHash, X509Certificate } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

import { run } from './server.js';

/** Makes `ca.pem`, `chain.pem` and `key.pem` in `folder`. */
export async function makeCertificates(folder) {
  const file = (name) => path.join(folder, name);
  const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  await run('openssl', ['req', '-x509', ...ec, '-days', '7', '-subj', '/CN=interop authority',
    '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign,cRLSign',
    '-keyout', file('ca.key'), '-out', file('ca.pem')]);
  await run('openssl', ['req', ...ec, '-subj', '/CN=localhost', '-keyout', file('key.pem'), '-out', file('request.pem')]);
  writeFileSync(file('extensions'), [
    'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1',
    'basicConstraints=critical,CA:FALSE',
    'keyUsage=critical,digitalSignature',
    'extendedKeyUsage=serverAuth',
    'authorityKeyIdentifier=keyid',
  ].join('\n'));
  await run('openssl', ['x509', '-req', '-in', file('request.pem'), '-CA', file('ca.pem'), '-CAkey', file('ca.key'),
    '-CAcreateserial', '-days', '7', '-extfile', file('extensions'), '-out', file('chain.pem')]);
  return {
    ca: readFileSync(file('ca.pem')),
    caFile: file('ca.pem'),
    chain: file('chain.pem'),
    key: file('key.pem'),
    spki: spkiHash(readFileSync(file('chain.pem'))),
  };
}

/** The hash of a certificate's public key, in the form Chromium takes on its command line. */
export function spkiHash(certificate) {
  const key = new X509Certificate(certificate).publicKey.export({ type: 'spki', format: 'der' });
  return createHash('sha256').update(key).digest('base64');
}
