// brokergate between real brokers and real clients. `node run.js [--quick] [--direct] [--list] [WORD...]`
//
// Cases whose name, broker or client contain every WORD are run. With --direct the matrix's clients go
// straight to the brokers, which proves the case rather than the gateway. --quick leaves out the cases that
// wait for real or need the machine to themselves.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { makeCertificates } from './harness/certificates.js';
import { Context, Shared } from './harness/context.js';
import { row, runCases, story } from './harness/runner.js';

const words = process.argv.slice(2).filter((argument) => !argument.startsWith('--'));
const asked = (flag) => process.argv.includes(flag);

const files = readdirSync(new URL('./cases/', import.meta.url)).filter((name) => name.endsWith('.js')).sort();
const modules = await Promise.all(files.map((name) => import(`./cases/${name}`)));
const cases = modules
  .flatMap((module) => module.default)
  .map((it, index) => ({ ...it, number: index + 1 }))
  .filter(({ when }) => !asked('--quick') || !['throughout', 'alone'].includes(when))
  .filter((it) => words.every((word) => `${it.name} ${it.broker ?? ''} ${it.client ?? ''}`.toLowerCase().includes(word.toLowerCase())));

if (asked('--list')) {
  for (const it of cases) console.log(row({ case: it, ms: 0 }).slice(19));
  process.exit(0);
}

const folder = mkdtempSync(path.join(os.tmpdir(), 'brokergate-interop-'));
process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => process.exit(1));

// An error that nobody awaited is a failure of its own, and must not hide the others.
const strays = [];
process.on('uncaughtException', (error) => strays.push(error));
process.on('unhandledRejection', (error) => strays.push(error));

const shared = new Shared({ folder, certificates: await makeCertificates(folder), direct: asked('--direct') });
const started = performance.now();
await shared.warmUp(cases);
const results = await runCases(cases, {
  makeContext: (it) => new Context(shared, it),
  deadlineMs: 8 * 60_000,
  report: (result) => console.log(row(result)),
});
await shared.stop();

const failures = results.filter(({ failure }) => failure);
for (const result of failures) console.log(`\n${story(result)}`);
for (const error of strays) console.log(`\n--- an error that nobody awaited\n${error?.stack ?? error}`);
if (cases.length === 0) console.log(`\nno case matches ${words.join(' ')}`);

const failed = failures.length + strays.length + (cases.length === 0 ? 1 : 0);
console.log(`\ninterop: ${Math.round((performance.now() - started) / 1000)} s`);
console.log(`${results.length - failures.length} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
