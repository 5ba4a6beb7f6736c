/** What a test says of a user when it gives it back. */

import type { Outcome, Reason, Verdict } from "./types";

/** Characters. */
const LONGEST_NOTE = 1_000;

// Objects, because the compiler then refuses one that lacks what the farm knows.
const OUTCOMES: Record<Outcome, true> = { ok: true, dirty: true, broken: true };
const REASONS: Record<Reason, true> = {
  credential_rejected: true,
  locked_out: true,
  captcha: true,
  mfa: true,
  data: true,
  rate_limited: true,
  environment: true,
  other: true,
};

export interface Why {
  /** Of `dirty` and `broken`. */
  reason?: Reason;
  /** For people: 1,000 characters of it are kept. */
  note?: string;
}

/**
 * Checked at once, because Playwright does not check types, and because the users of a release that the farm refuses
 * come back only when their lease expires. Throws RangeError.
 */
export function verdict(outcome: Outcome, why: Why): Verdict {
  if (!isOneOf(OUTCOMES, outcome)) throw new RangeError(`outcome ${shown(outcome)}: give ${choice(OUTCOMES)}`);
  if (typeof why !== "object" || why === null) {
    throw new RangeError('after the outcome give an object, as { note: "no cart" }');
  }
  const { reason, note, ...rest } = why;
  const [unknown] = Object.keys(rest);
  if (unknown) throw new RangeError(`${unknown}: a mark has a reason and a note`);
  if (note !== undefined && typeof note !== "string") throw new RangeError("note: give a text");
  if (reason !== undefined) {
    if (!isOneOf(REASONS, reason)) throw new RangeError(`reason ${shown(reason)}: give ${choice(REASONS)}`);
    if (outcome === "ok") throw new RangeError("reason: it goes with the outcomes dirty and broken");
  }
  const kept = note && storable(note);
  return { outcome, ...(reason && { reason }), ...(kept && { note: kept }) };
}

function isOneOf<Name extends string>(names: Record<Name, true>, given: unknown): given is Name {
  return typeof given === "string" && Object.hasOwn(names, given);
}

function choice(names: object): string {
  return Object.keys(names).join(", ").replace(/, (\w+)$/, " or $1");
}

function shown(given: unknown): string {
  return JSON.stringify(given) ?? typeof given;
}

/** PostgreSQL keeps no NUL in text, and UTF-8 has no half of a character. */
function storable(note: string): string {
  return note.replaceAll("\0", " ").slice(0, LONGEST_NOTE).toWellFormed();
}
