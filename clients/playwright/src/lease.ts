/** A lease that is kept: renewed in the background, and told to be lost in time. */

import { inspect } from "node:util";

import type { Granted } from "./acquiring";
import { now } from "./clock";
import { ANSWER_TIMEOUT, type Call, CODE_PATIENCE, type Connection, GRACE, LONGEST_CODE_WAIT } from "./connection";
import { discreet } from "./credentials";
import { BotfarmError, LeaseLostError, ProblemError } from "./errors";
import type { LeaseAnswer, LeasedUser, Outcome, Release, Totp, Verdict, WriteBack } from "./types";
import { verdict, type Why } from "./verdicts";

/** Milliseconds. */
const SHORTEST_PAUSE = 250;
/** Between two looks at a lease at most: timers stand still while the machine sleeps. */
const TICK = 1_000;
const SHORTEST_TIMEOUT = 1_000;
/** Before the farm's end of the lease comes ours, by a tenth of the TTL and this at most: the runner has to stop by then. */
const LONGEST_MARGIN = 5_000;

/** Slugs. A proxy that answers in the farm's place, or a farm with a bug, does not know that a lease has ended. */
const ENDED = new Set(["lease-lapsed", "no-such-lease", "not-the-holder"]);

export class Lease implements AsyncDisposable {
  readonly #connection: Connection;
  readonly #lost = new AbortController();
  /** Aborted when there is nothing left to renew. */
  readonly #over = new AbortController();
  /** By the users' ids. */
  readonly #marks = new Map<string, Verdict>();
  #answer: LeaseAnswer;
  /** On our clock, and never later than on the farm's: counted from before the request that was answered. */
  #expiresAt: number;
  /** On our clock: never while a renewal is under way. */
  #renewAt = Number.POSITIVE_INFINITY;
  /** Why it is not renewed yet. */
  #failure: Error | undefined;
  #timer: NodeJS.Timeout | undefined;
  #released: Promise<void> | undefined;

  private constructor(connection: Connection, { lease, askedAt }: Granted) {
    this.#connection = connection;
    this.#answer = { ...lease, users: lease.users.map(discreet) };
    this.#expiresAt = askedAt + lease.expires_in * 1_000;
  }

  /** Throws LeaseLostError when it took so long to get the answer that the lease has ended. */
  static async keep(connection: Connection, granted: Granted): Promise<Lease> {
    const lease = new Lease(connection, granted);
    // Who has waited does not know when the wait ended: a renewal, which is quick, tells how long the lease lasts.
    if (now() - granted.askedAt > (granted.lease.expires_in * 1_000) / 3) {
      await lease.#renew({ until: now() + GRACE, inBackground: false });
      lease.lost.throwIfAborted();
    } else {
      lease.#schedule();
    }
    return lease;
  }

  get id(): string {
    return this.#answer.id;
  }

  get users(): readonly LeasedUser[] {
    this.#look();
    return this.#answer.users;
  }

  /** The one user of a lease of one. */
  get user(): LeasedUser {
    const [user, another] = this.users;
    if (!user || another) throw new RangeError("this lease has several users: see `users`");
    return user;
  }

  /**
   * Is aborted, with a LeaseLostError, a moment before the farm may give the users to somebody else; later only when the lease
   * was ended at the farm, or this machine slept.
   */
  get lost(): AbortSignal {
    this.#look();
    return this.#lost.signal;
  }

  /**
   * Says at its release how one user is: `broken` when no test can use it so. It replaces what the release says of all
   * users, and an earlier mark. Throws RangeError for a wrong argument, BotfarmError once the lease is released.
   */
  mark(userId: string, outcome: Outcome, why: Why = {}): void {
    const said = verdict(outcome, why);
    const isOurs = this.#answer.users.some(({ id }) => id === userId);
    if (!isOurs) throw new RangeError(`lease ${this.id} has no user ${userId}`);
    if (this.#released) throw new BotfarmError(`lease ${this.id} is released: mark its users before`);
    this.#marks.set(userId, said);
  }

  /** Whether a user is marked as dirty or broken. */
  get isSpoilt(): boolean {
    return [...this.#marks.values()].some(({ outcome }) => outcome !== "ok");
  }

  /**
   * Gives the users back; once more is the same as once. `said.users` replace marks, because they come later.
   * Throws LeaseLostError when the lease had lapsed.
   */
  async release(said: Release = {}): Promise<void> {
    this.#released ??= this.#release(said);
    return this.#released;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }

  /** Keeps what a test has changed, a new password or secrets, for the next holder. Null removes a secret. Throws LeaseLostError. */
  async writeBack(userId: string, changes: WriteBack): Promise<void> {
    const path = `/leases/${this.id}/users/${userId}`;
    const written = await this.#ask<LeasedUser>({ method: "PATCH", path, body: changes });
    const users = this.users.map((user) => (user.id === userId ? discreet({ ...written, ...(user.totp && { totp: user.totp }) }) : user));
    this.#answer = { ...this.#answer, users };
  }

  /**
   * A one-time code that nobody has got yet. Waits for the next one where it must, up to 30 seconds.
   *
   * @param goodFor Seconds for which it is good at least, up to 20. Throws LeaseLostError.
   */
  async totp(userId: string, { goodFor }: { goodFor?: number } = {}): Promise<Totp> {
    const query = goodFor === undefined ? "" : `?good_for=${goodFor}`;
    const path = `/leases/${this.id}/users/${userId}/totp${query}`;
    return this.#ask({ method: "GET", path, timeout: ANSWER_TIMEOUT + LONGEST_CODE_WAIT }, CODE_PATIENCE);
  }

  /** Without credentials. */
  toJSON(): object {
    const users = this.#answer.users.map(({ id, login, labels }) => ({ id, login, labels }));
    const { id, project_id, env, domain, owner, acquired_at } = this.#answer;
    return { id, project_id, env, domain, owner, acquired_at, users };
  }

  [inspect.custom](): string {
    return `Lease ${inspect(this.toJSON())}`;
  }

  get #left(): number {
    return this.#expiresAt - now();
  }

  get #margin(): number {
    return Math.min(LONGEST_MARGIN, this.#answer.ttl_seconds * 100);
  }

  #schedule(): void {
    this.#renewAt = now() + Math.max(SHORTEST_PAUSE, this.#left / 3);
    this.#look();
  }

  /** Does what is due by now, and looks again in time. */
  #look(): void {
    if (this.#over.signal.aborted) return;
    clearTimeout(this.#timer);
    const left = this.#left - this.#margin;
    if (left <= 0) {
      this.#lose(this.#whyLate(), this.#failure);
      return;
    }
    if (now() >= this.#renewAt) void this.#renew({ until: now() + left, inBackground: true });
    this.#timer = setTimeout(() => this.#look(), Math.min(TICK, left, Math.max(0, this.#renewAt - now())));
    this.#timer.unref();
  }

  #whyLate(): string {
    const { expires_at, hold_until } = this.#answer;
    if (expires_at === hold_until) return "it was held as long as the project's max_hold allows";
    if (this.#failure) return `it could not be renewed in time: ${this.#failure.message}`;
    if (this.#renewAt < now()) return "this machine or process stood still, and did not renew it in time";
    return "it could not be renewed in time";
  }

  async #renew({ until, inBackground }: { until: number; inBackground: boolean }): Promise<void> {
    this.#renewAt = Number.POSITIVE_INFINITY; // one at a time
    let askedAt = now();
    const ask = async (): Promise<LeaseAnswer> => {
      askedAt = now();
      // An answer that does not come must leave time to ask again.
      const timeout = Math.min(ANSWER_TIMEOUT, Math.max(SHORTEST_TIMEOUT, (until - askedAt) / 3));
      return this.#connection.call({ method: "POST", path: `/leases/${this.id}/renew`, timeout });
    };
    try {
      const renewed = await this.#connection.persist(ask, {
        until,
        repeats: (error) => {
          this.#failure = error as Error;
          return !hasEnded(error);
        },
        signal: this.#over.signal,
        inBackground,
      });
      if (this.#over.signal.aborted) return;
      // The credentials stay those that the holder knows, which may have written others back meanwhile.
      this.#answer = { ...renewed, users: this.#answer.users };
      this.#expiresAt = askedAt + renewed.expires_in * 1_000;
      this.#failure = undefined;
      this.#schedule();
    } catch (error) {
      this.#lose(hasEnded(error) ? error.message : this.#whyLate(), error);
    }
  }

  #lose(why: string, cause?: unknown): void {
    if (this.#over.signal.aborted) return;
    this.#end();
    this.#lost.abort(new LeaseLostError(this.id, why, { cause }));
  }

  #end(): void {
    clearTimeout(this.#timer);
    this.#over.abort();
  }

  async #release(said: Release): Promise<void> {
    const wasLost = this.lost.aborted;
    this.#end();
    const path = `/leases/${this.id}/release`;
    try {
      // One that seems lost is given back too, as the farm may still have it; but nobody waits for that.
      const until = now() + (wasLost ? 0 : GRACE);
      const body = this.#withMarks(said);
      const give = () => this.#connection.call({ method: "POST", path, body, timeout: GRACE });
      await this.#connection.persist(give, { until });
    } catch (error) {
      if (wasLost) return;
      if (!hasEnded(error)) throw error;
      this.#lost.abort(new LeaseLostError(this.id, error.problem.detail, { cause: error }));
      throw this.lost.reason;
    }
  }

  #withMarks({ users = [], ...ofAll }: Release): Release {
    const marked = [...this.#marks].map(([id, said]) => ({ id, ...said }));
    const all = [...marked.filter(({ id }) => !users.some((user) => user.id === id)), ...users];
    return { ...ofAll, ...(all.length > 0 && { users: all }) };
  }

  /** What only the holder may ask. */
  async #ask<Answer>(call: Call, patience = GRACE): Promise<Answer> {
    this.lost.throwIfAborted();
    try {
      return await this.#connection.persist(() => this.#connection.call<Answer>(call), { until: now() + patience });
    } catch (error) {
      if (hasEnded(error)) this.#lose(error.message, error);
      this.lost.throwIfAborted();
      throw error;
    }
  }
}

function hasEnded(error: unknown): error is ProblemError {
  return error instanceof ProblemError && ENDED.has(error.slug);
}
