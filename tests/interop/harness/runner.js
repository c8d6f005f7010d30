// Runs cases: some side by side, some alone, the long silent ones beside everything; each with its own deadline.

import { within } from './wait.js';

/**
 * A case: `{ name, broker, client, run }`, and perhaps
 * - `ms`: its deadline (30 s);
 * - `when`: 'beside' others (the default), 'alone' for what needs the machine, 'throughout' for what mostly waits.
 */
export async function runCases(cases, { makeContext, deadlineMs, report }) {
  const results = [];
  const deadline = Date.now() + deadlineMs;
  const perform = async (it) => {
    const result = await performOne(it, makeContext, deadline);
    results.push(result);
    report(result);
  };
  const of = (when) => cases.filter((it) => (it.when ?? 'beside') === when);
  const throughout = Promise.all(of('throughout').map(perform));
  const queue = of('beside');
  const lane = async () => {
    while (queue.length > 0) await perform(queue.shift());
  };
  await Promise.all([lane(), lane(), lane(), lane()]);
  for (const it of of('alone')) await perform(it);
  await throughout;
  for (const it of of('last')) await perform(it);
  return results;
}

async function performOne(it, makeContext, deadline) {
  const context = makeContext(it);
  const started = performance.now();
  const left = Math.max(deadline - Date.now(), 0);
  const ms = Math.min(it.ms ?? 30_000, left);
  let failure = null;
  try {
    if (left === 0) throw new Error('the whole run has used up its time');
    await within(ms, 'this case', Promise.resolve().then(() => it.run(context)));
  } catch (error) {
    failure = error;
  }
  const tails = failure ? await context.tails() : [];
  const took = performance.now() - started;
  try {
    await within(30_000, 'cleaning up after this case', context.cleanUp());
  } catch (error) {
    failure ??= error;
  }
  return { case: it, ms: took, failure, tails };
}

/** One line of the table. */
export function row({ case: it, ms, failure }) {
  const cells = [
    failure ? 'FAILED' : 'passed',
    `${Math.round(ms)} ms`.padStart(9),
    (it.broker ?? '-').padEnd(16),
    (it.client ?? '-').padEnd(22),
    it.name,
  ];
  return cells.join('  ');
}

/** Why a case failed, and what the servers it touched wrote last. */
export function story({ case: it, failure, tails }) {
  const lines = [`--- ${it.name} (${it.broker ?? '-'}, ${it.client ?? '-'})`];
  for (let error = failure; error; error = error.cause) lines.push(String(error.stack ?? error));
  for (const { name, tail } of tails) lines.push(`  the log of ${name} ends:`, ...tail.map((line) => `    ${line}`));
  return lines.join('\n');
}
