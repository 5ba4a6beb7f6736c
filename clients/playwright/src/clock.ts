import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";

/** Milliseconds that never jump: what leases are measured with. */
export function now(): number {
  return performance.now();
}

/** Does not keep the process alive, and throws what `signal` was aborted with. */
export async function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  try {
    await sleep(Math.max(0, milliseconds), undefined, { ref: false, ...(signal && { signal }) });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
}
