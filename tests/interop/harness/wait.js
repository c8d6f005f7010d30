// Waiting for events: with a deadline always, and a sentence about what did not come.

/** Settles as `promise` does, or fails after `ms` saying what was awaited. */
export function within(ms, what, promise) {
  let timer;
  const deadline = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${ms} ms`)), ms);
  });
  return Promise.race([promise, deadline]).finally(() => clearTimeout(timer));
}

/** Asks again until `ask` gives something truthy. For states that send no event, such as a metrics page. */
export async function eventually(what, ask, { ms = 10_000, every = 50 } = {}) {
  const deadline = Date.now() + ms;
  let last;
  for (;;) {
    try {
      const answer = await ask();
      if (answer) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > deadline) throw new Error(`${what}: not within ${ms} ms`, { cause: last });
    await pause(every);
  }
}

/** Lets time pass. Only where silence itself is what is tested. */
export function pause(ms) {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}

/** A queue that one side fills and the other awaits, in order, with an optional test for what is wanted. */
export class Inbox {
  #kept = [];
  #waiting = [];
  #ended = null;

  put(item) {
    const index = this.#waiting.findIndex(({ wanted }) => wanted(item));
    if (index < 0) this.#kept.push(item);
    else this.#waiting.splice(index, 1)[0].resolve(item);
  }

  /** No more will come: whoever waits, now or later, is told why. */
  end(reason) {
    this.#ended ??= reason;
    for (const { reject, what } of this.#waiting.splice(0)) reject(new Error(`${what}: ${this.#ended}`));
  }

  next(what, { ms = 10_000, wanted = () => true } = {}) {
    const index = this.#kept.findIndex(wanted);
    if (index >= 0) return Promise.resolve(this.#kept.splice(index, 1)[0]);
    if (this.#ended) return Promise.reject(new Error(`${what}: ${this.#ended}`));
    return within(ms, what, new Promise((resolve, reject) => {
      this.#waiting.push({ wanted, resolve, reject, what });
    }));
  }

  get size() {
    return this.#kept.length;
  }
}
