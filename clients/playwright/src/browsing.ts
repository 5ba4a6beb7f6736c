/** A user in a browser context, which is closed before anybody else may have the user. */

import type { BrowserContext } from "@playwright/test";

import type { Bot } from "./bot";
import { type BotSession, KeptSession } from "./session";

export class Browsing {
  readonly #context: BrowserContext;
  readonly #lost: AbortSignal;
  readonly #session: KeptSession | undefined;

  /** Throws SettingsError. */
  constructor(context: BrowserContext, bot: Bot, how: BotSession | undefined) {
    this.#context = context;
    this.#lost = bot.lease.lost;
    this.#session = how && new KeptSession(context, bot, how);
  }

  /** Signs in, where it is said how. Throws LeaseLostError. */
  async open(): Promise<void> {
    this.#lost.addEventListener("abort", this.#stop);
    this.#lost.throwIfAborted(); // who listens too late never hears of it
    await this.#session?.open();
  }

  /** @param limit Milliseconds, for each step. */
  async keepSession(limit: number): Promise<void> {
    await this.#session?.keepAfterTest(limit);
  }

  /** A page that is still open could go on with the user when that is somebody else's. */
  async close(): Promise<void> {
    this.#lost.removeEventListener("abort", this.#stop);
    await this.#context.close();
  }

  /** Whatever the test does at that moment fails at once, and touches nobody else's account. */
  readonly #stop = () => {
    void this.#context.close({ reason: (this.#lost.reason as Error).message }).catch(() => undefined);
  };
}
