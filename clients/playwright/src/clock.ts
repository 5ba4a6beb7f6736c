import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds between two looks by which the time of day must go ahead to be taken for sleep: more than it is ever slewed. */
const LEAST_SLEEP = 1_000;

/**
 * Goes on while the machine is suspended, as the farm's does. On Linux `performance.now` stands still then, and Node has no clock
 * that does not; the time of day goes on, but is set at times. So what it goes ahead between two looks is taken for
 * sleep. Who sets it ahead loses leases early; set back, it changes nothing.
 */
export class Clock {
  readonly #steady: () => number;
  readonly #timeOfDay: () => number;
  #ahead: number;
  #slept = 0;

  constructor(steady: () => number, timeOfDay: () => number) {
    this.#steady = steady;
    this.#timeOfDay = timeOfDay;
    this.#ahead = timeOfDay() - steady();
  }

  /** Milliseconds. Looked at once a second, it does not add up what the time of day is slewed. */
  now(): number {
    const steady = this.#steady();
    const ahead = this.#timeOfDay() - steady;
    if (ahead - this.#ahead > LEAST_SLEEP) this.#slept += ahead - this.#ahead;
    this.#ahead = ahead;
    return steady + this.#slept;
  }
}

// Bound now, as tests may put other clocks in their place.
const clock = new Clock(performance.now.bind(performance), Date.now);

/** Milliseconds: what leases are measured with. */
export function now(): number {
  return clock.now();
}

export interface PauseOptions {
  signal?: AbortSignal | undefined;
  /** Whether nobody waits for what comes after it: then it does not keep the process alive. */
  inBackground?: boolean | undefined;
}

/** Throws what `signal` was aborted with. */
export async function pause(milliseconds: number, { signal, inBackground = false }: PauseOptions = {}): Promise<void> {
  try {
    await sleep(Math.max(0, milliseconds), undefined, { ref: !inBackground, ...(signal && { signal }) });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
