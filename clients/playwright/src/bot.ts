/** The user of a test, as the test sees it. */

import type { BrowserContext, Page } from "@playwright/test";

import type { Lease } from "./lease";
import type { LeasedUser, Outcome } from "./types";
import type { Why } from "./verdicts";

export type StorageState = Awaited<ReturnType<BrowserContext["storageState"]>>;

/** The name among the user's secrets. */
const STORAGE_STATE = "storage_state";

export class Bot {
  readonly #lease: Lease;
  readonly #id: string;

  /** @param id Of a user of the lease. */
  constructor(lease: Lease, id = lease.user.id) {
    this.#lease = lease;
    this.#id = id;
  }

  get login(): string {
    return this.user.login;
  }

  get password(): string {
    return this.user.password ?? "";
  }

  /** All of it: labels, secrets, one-time code. */
  get user(): LeasedUser {
    const found = this.#lease.users.find(({ id }) => id === this.#id);
    if (!found) throw new RangeError(`lease ${this.#lease.id} has no user ${this.#id}`);
    return found;
  }

  /** That of all users of the test that were wanted alike. */
  get lease(): Lease {
    return this.#lease;
  }

  /**
   * A one-time code that nobody has got yet. May wait 30 seconds for the next one.
   *
   * @param options.goodFor Seconds for which it is good at least: 5, or up to 20.
   */
  async totp(options: { goodFor?: number } = {}): Promise<string> {
    return (await this.#lease.totp(this.#id, options)).code;
  }

  /**
   * Says at its release how the user is: `broken` when no test can use it so. The last mark counts. Throws RangeError
   * for an outcome or a reason that does not exist.
   */
  mark(outcome: Outcome, why: Why = {}): void {
    this.#lease.mark(this.#id, outcome, why);
  }

  /** The browser's session that a test before this one has kept. */
  get storageState(): StorageState | undefined {
    return this.user.secrets?.[STORAGE_STATE] as StorageState | undefined;
  }

  /** @param expiresIn Seconds until the session ends, where that is known. */
  async keepStorageState(state: StorageState, expiresIn?: number): Promise<void> {
    const end = expiresIn && new Date(Date.now() + expiresIn * 1_000).toISOString();
    await this.#lease.writeBack(this.#id, {
      secrets: { [STORAGE_STATE]: state },
      ...(end && { session_expires_at: end }),
    });
  }

  async forgetStorageState(): Promise<void> {
    if (this.storageState) await this.#lease.writeBack(this.#id, { secrets: { [STORAGE_STATE]: null } });
  }
}

/** One of several users of a test, with a browser context and a page of its own. */
export class BotWithPage extends Bot {
  readonly page: Page;

  constructor(bot: Bot, page: Page) {
    super(bot.lease, bot.user.id);
    this.page = page;
  }

  get context(): BrowserContext {
    return this.page.context();
  }
}
