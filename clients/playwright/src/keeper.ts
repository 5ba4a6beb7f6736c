/** Takes the users of tests, and keeps the one of a worker from test to test, where tests want that. */

import { Bot } from "./bot";
import { Botfarm, LeaseLostError, type Wanted } from "./client";
import { together } from "./kinds";
import type { Lease } from "./lease";

export type Scope = "test" | "worker";

export class Keeper {
  #farm: Botfarm | undefined;
  #kept: { bot: Bot; wanted: string } | undefined;
  #keptIsInUse = false;

  /** @param about Who asks: it makes no user another one. */
  async take(wanted: Wanted, about: Wanted, scope: Scope): Promise<Bot> {
    const asked = scope === "worker" ? JSON.stringify(wanted) : undefined;
    if (!this.#kept || this.#kept.wanted !== asked || this.#kept.bot.lease.lost.aborted) {
      await this.close();
      const bot = new Bot(await this.#acquire({ ...wanted, ...about }));
      if (asked === undefined) return bot;
      this.#kept = { bot, wanted: asked };
    }
    this.#keptIsInUse = true;
    return this.#kept.bot;
  }

  /** Several users, in the order in which they are wanted. */
  async takeAll(wanted: readonly Wanted[], about: Wanted): Promise<Bot[]> {
    if (!this.#keptIsInUse) await this.close(); // this worker would wait for its own user
    const bots: Bot[] = [];
    const taken: Lease[] = [];
    try {
      for (const { wanted: kind, places } of together(wanted)) {
        const lease = await this.#acquire({ ...kind, ...about, ...(places.length > 1 && { count: places.length }) });
        taken.push(lease);
        lease.users.forEach(({ id }, index) => (bots[places[index]!] = new Bot(lease, id)));
      }
    } catch (error) {
      await Promise.all(taken.map(giveBack));
      throw error;
    }
    return bots;
  }

  /** What a test says when it is through. Throws LeaseLostError when it has gone on without the lease. */
  async putBack(bot: Bot): Promise<void> {
    if (bot !== this.#kept?.bot) await giveBack(bot.lease);
    else if (bot.lease.isSpoilt) await this.close();
    this.#keptIsInUse = false;
    bot.lease.lost.throwIfAborted();
  }

  /** Throws LeaseLostError when the test has gone on without one of the leases. */
  async putAllBack(bots: readonly Bot[]): Promise<void> {
    const leases = leasesOf(bots);
    await Promise.all(leases.map(giveBack));
    for (const { lost } of leases) lost.throwIfAborted();
  }

  async close(): Promise<void> {
    const kept = this.#kept;
    this.#kept = undefined;
    if (kept) await giveBack(kept.bot.lease);
  }

  async #acquire(wanted: Wanted): Promise<Lease> {
    this.#farm ??= new Botfarm();
    return this.#farm.acquire(wanted);
  }
}

export function leasesOf(bots: readonly Bot[]): Lease[] {
  return [...new Set(bots.map(({ lease }) => lease))];
}

/** No test fails because its users come back late. */
async function giveBack(lease: Lease): Promise<void> {
  const logins = lease.users.map(({ login }) => login).join(", ");
  try {
    await lease.release();
  } catch (error) {
    if (error instanceof LeaseLostError) return;
    console.warn(`botfarm: ${logins}: given back when the lease expires: ${(error as Error).message}`);
  }
}
