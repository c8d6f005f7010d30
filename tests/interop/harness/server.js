// A server process of ours: its log kept, its end ours to bring about, by pid, whatever happens.

import { spawn } from 'node:child_process';
import { once } from 'node:events';

import { within } from './wait.js';

const running = new Set();

// The last resort: `exit` runs whichever way the suite ends, save SIGKILL.
process.on('exit', () => {
  for (const server of running) server.kill('SIGKILL');
});

export class Server {
  #lines = [];
  #watchers = new Set();

  constructor(name, command, args, { env = {}, cwd, stdin = 'ignore', ipc = false } = {}) {
    this.name = name;
    this.child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ipc ? [stdin, 'pipe', 'pipe', 'ipc'] : [stdin, 'pipe', 'pipe'],
    });
    running.add(this);
    /** `{ code, signal }` once it is gone. */
    this.exited = new Promise((resolve) => {
      this.child.once('error', (error) => this.#gone(resolve, { code: null, signal: null, error }));
      this.child.once('exit', (code, signal) => this.#gone(resolve, { code, signal }));
    });
    /** The same once all that it wrote was read, which may be later. */
    this.closed = new Promise((resolve) => {
      this.child.once('error', (error) => resolve({ code: null, signal: null, error }));
      this.child.once('close', (code, signal) => resolve({ code, signal }));
    });
    this.#follow(this.child.stdout);
    this.#follow(this.child.stderr);
  }

  get pid() {
    return this.child.pid;
  }

  #gone(resolve, end) {
    running.delete(this);
    this.end = end;
    resolve(end);
  }

  #follow(stream) {
    let rest = '';
    stream.setEncoding('utf8');
    stream.on('error', () => {});
    stream.on('data', (text) => {
      const lines = (rest + text).split('\n');
      rest = lines.pop();
      for (const line of lines) this.#line(line);
    });
    stream.once('end', () => rest && this.#line(rest));
  }

  #line(line) {
    this.#lines.push(line);
    if (this.#lines.length > 4000) this.#lines.splice(0, 1000);
    for (const watcher of this.#watchers) watcher(line);
  }

  /** The log's last lines. */
  tail(count = 25) {
    return this.#lines.slice(-count);
  }

  /** The last lines with `text` in them. */
  about(text, count = 25) {
    return this.#lines.filter((line) => line.includes(text)).slice(-count);
  }

  /** The first line, written already or to come, that matches. */
  line(pattern, { ms = 20_000 } = {}) {
    const already = this.#lines.find((line) => pattern.test(line));
    if (already !== undefined) return Promise.resolve(already);
    let watcher;
    const found = new Promise((resolve, reject) => {
      watcher = (line) => pattern.test(line) && resolve(line);
      this.#watchers.add(watcher);
      this.closed.then((end) => reject(new Error(`${this.name} ended early: ${describe(end)}\n${this.tail(10).join('\n')}`)));
    });
    return within(ms, `${pattern} in the log of ${this.name}`, found).finally(() => this.#watchers.delete(watcher));
  }

  kill(signal) {
    try {
      if (!this.end) process.kill(this.child.pid, signal);
    } catch {
      // Gone in between.
    }
  }

  /** Asks it to end, and makes it end when it does not. */
  async stop({ signal = 'SIGTERM', ms = 10_000 } = {}) {
    this.kill(signal);
    try {
      return await within(ms, `the end of ${this.name} after ${signal}`, this.exited);
    } catch (error) {
      this.kill('SIGKILL');
      await this.exited;
      throw error;
    }
  }
}

/** Runs a command to its end; what it wrote to stdout. */
export async function run(command, args, { ms = 30_000, ...options } = {}) {
  const server = new Server(command, command, args, options);
  const closed = once(server.child, 'close');
  const [code] = await within(ms, `${command} ${args.join(' ')}`, closed).catch((error) => {
    server.kill('SIGKILL');
    throw error;
  });
  const written = server.tail(4000).join('\n');
  if (code !== 0) throw new Error(`${command} ${args.join(' ')} ended with ${code}\n${written}`);
  return written;
}

function describe({ code, signal, error }) {
  if (error) return error.message;
  return signal ? `killed by ${signal}` : `exit code ${code}`;
}
