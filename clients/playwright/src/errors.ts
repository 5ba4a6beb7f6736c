/**
 * Everything that goes wrong:
 *
 *     BotfarmError
 *     ├── SettingsError       BOTFARM_TOKEN is missing, and the like
 *     ├── IdentityRefusedError   this run of a CI gets no token
 *     ├── UnreachableError    no answer, or one that is no farm's
 *     ├── ProblemError        the farm said no: `slug` says which no
 *     │   └── PoolExhaustedError   nobody became free in time
 *     └── LeaseLostError      the users may be somebody else's: stop using them
 */

import type { Problem } from "./types";

export class BotfarmError extends Error {
  override get name(): string {
    return this.constructor.name;
  }
}

export class SettingsError extends BotfarmError {}

export class IdentityRefusedError extends BotfarmError {}

export class UnreachableError extends BotfarmError {}

export class ProblemError extends BotfarmError {
  /** The part of `type` that never changes for one kind of error: `docs/problems.md` lists them. */
  readonly slug: string;
  readonly status: number;

  constructor(
    readonly problem: Problem,
    /** Seconds, as the header Retry-After has it. */
    readonly retryAfter: number | undefined,
    message?: string,
  ) {
    super(message ?? `${problem.status} ${slugOf(problem)}: ${detailOf(problem)}`);
    this.slug = slugOf(problem);
    this.status = problem.status;
  }
}

export class PoolExhaustedError extends ProblemError {
  constructor(pool: string, waited: number, { problem, retryAfter }: ProblemError) {
    const nextFree = problem["next_free_in"];
    const next = typeof nextFree === "number" ? `, next free in ${Math.ceil(nextFree)} s` : "";
    super(
      problem,
      retryAfter,
      `pool ${pool} exhausted after ${Math.round(waited)} s: ${String(problem["waiting"])} waiting${next}`,
    );
  }
}

export class LeaseLostError extends BotfarmError {
  constructor(
    readonly leaseId: string,
    why: string,
    options?: ErrorOptions,
  ) {
    super(`lease ${leaseId} is lost (${why}): its users may be somebody else's`, options);
  }
}

function slugOf(problem: Problem): string {
  return problem.type.split(":").at(-1) ?? "";
}

/** What is wrong with each field, where the farm says it. */
function detailOf({ detail, errors }: Problem): string {
  if (!Array.isArray(errors) || errors.length === 0) return detail;
  return (errors as { field: string; message: string }[]).map(({ field, message }) => `${field}: ${message}`).join("; ");
}
