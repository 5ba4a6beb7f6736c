/** Taking a lease with patience: longer than one request may wait, and across answers that are lost. */

import { randomUUID } from "node:crypto";

import { now, pause } from "./clock";
import { ANSWER_TIMEOUT, type Connection, GRACE, mayPass } from "./connection";
import { PoolExhaustedError, ProblemError } from "./errors";
import type { LeaseAnswer, LeaseRequest } from "./types";

/** Seconds that one request may ask the farm to wait. */
const LONGEST_WAIT = 300;
/** A quota is used up, or too many wait at this replica: both pass. */
const TOO_MANY = 429;
/** Milliseconds. A farm that answers sooner than it was asked to is not asked again without a pause. */
const PAUSE = 1_000;

export interface Granted {
  lease: LeaseAnswer;
  /** When the request was sent that was granted: the lease is no older. */
  askedAt: number;
}

/**
 * All requests go under one key, so a lost answer never takes a second user.
 *
 * @param wait Seconds.
 */
export async function acquire(connection: Connection, request: LeaseRequest, wait: number): Promise<Granted> {
  const startedAt = now();
  const deadline = startedAt + wait * 1_000;
  let idempotencyKey = randomUUID();
  let askedAt = startedAt;
  const ask = async (): Promise<LeaseAnswer> => {
    askedAt = now();
    const seconds = Math.ceil(Math.min(LONGEST_WAIT, Math.max(0, (deadline - askedAt) / 1_000)));
    return connection.call({
      method: "POST",
      path: "/leases",
      body: { ...request, wait_seconds: seconds },
      idempotencyKey,
      timeout: ANSWER_TIMEOUT + seconds * 1_000,
    });
  };
  for (;;) {
    try {
      const until = Math.max(deadline, now() + GRACE); // beyond the wait, as a lost answer may have taken a user
      const lease = await connection.persist(ask, { until, repeats: (error) => mayPass(error) && !isTooMany(error) });
      return { lease, askedAt };
    } catch (error) {
      if (!(error instanceof ProblemError)) throw error;
      if (error.slug === "idempotency-key-ended") {
        idempotencyKey = randomUUID(); // its answer was lost, and so for long that the lease has ended
        continue;
      }
      const isExhausted = error.slug === "pool-exhausted";
      if (!isExhausted && !isTooMany(error)) throw error;
      if (isExhausted && now() >= deadline) {
        throw new PoolExhaustedError(poolOf(request), (now() - startedAt) / 1_000, error);
      }
      if (now() >= deadline) throw error;
      const wanted = isExhausted ? 0 : (error.retryAfter ?? 0) * 1_000;
      await pause(Math.min(deadline, askedAt + Math.max(PAUSE, wanted)) - now());
    }
  }
}

/** It took no user, and so is waited out no longer than the caller wants. */
function isTooMany(error: unknown): boolean {
  return error instanceof ProblemError && error.status === TOO_MANY;
}

function poolOf({ project, project_id, env, domain, user }: LeaseRequest): string {
  return [project ?? project_id, env, user ?? domain].filter(Boolean).join("/");
}
