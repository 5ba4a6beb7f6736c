import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds that never jump: what leases are measured with. */
export function now(): number {
  return performance.now();
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
