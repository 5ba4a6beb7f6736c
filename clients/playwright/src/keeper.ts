/** The user that a worker keeps from test to test, where tests want that. */

import { Bot } from "./bot";
import { Botfarm, LeaseLostError, type Wanted } from "./client";

export type Scope = "test" | "worker";

export class Keeper {
  #farm: Botfarm | undefined;
  #kept: { bot: Bot; wanted: string } | undefined;

  /** @param about Who asks: it makes no user another one. */
  async take(wanted: Wanted, about: Wanted, scope: Scope): Promise<Bot> {
    this.#farm ??= new Botfarm();
    const asked = scope === "worker" ? JSON.stringify(wanted) : undefined;
    if (this.#kept && this.#kept.wanted === asked && !this.#kept.bot.lease.lost.aborted) return this.#kept.bot;
    await this.close();
    const bot = new Bot(await this.#farm.acquire({ ...wanted, ...about }));
    if (asked !== undefined) this.#kept = { bot, wanted: asked };
    return bot;
  }

  /** What a test says when it is through. Throws LeaseLostError when it has gone on without the lease. */
  async putBack(bot: Bot): Promise<void> {
    if (bot !== this.#kept?.bot) await giveBack(bot);
    else if (bot.lease.isSpoilt) await this.close();
    bot.lease.lost.throwIfAborted();
  }

  async close(): Promise<void> {
    const kept = this.#kept;
    this.#kept = undefined;
    if (kept) await giveBack(kept.bot);
  }
}

/** No test fails because its user comes back late. */
async function giveBack(bot: Bot): Promise<void> {
  try {
    await bot.release();
  } catch (error) {
    if (error instanceof LeaseLostError) return;
    console.warn(`botfarm: ${bot.login} comes back when its lease expires: ${(error as Error).message}`);
  }
}
