/** The user of a test, as the test sees it. */

import type { BrowserContext } from "@playwright/test";

import type { Lease } from "./lease";
import type { LeasedUser, Release } from "./types";

export type StorageState = Awaited<ReturnType<BrowserContext["storageState"]>>;

/** The name among the user's secrets. */
const STORAGE_STATE = "storage_state";

export class Bot {
  readonly #lease: Lease;
  #said: Release = {};

  constructor(lease: Lease) {
    this.#lease = lease;
  }

  get login(): string {
    return this.user.login;
  }

  get password(): string {
    return this.user.password ?? "";
  }

  /** All of it: labels, secrets, one-time code. */
  get user(): LeasedUser {
    return this.#lease.user;
  }

  get lease(): Lease {
    return this.#lease;
  }

  /** A one-time code that is good now. */
  async totp(): Promise<string> {
    return (await this.#lease.totp(this.user.id)).code;
  }

  /** Says at its release that the user is not as it was: `broken` when no test can use it so. */
  mark(outcome: "broken" | "dirty", note?: string): void {
    this.#said = { outcome, ...(note !== undefined && { note: note.slice(0, 1_000) }) };
  }

  get isMarked(): boolean {
    return this.#said.outcome !== undefined;
  }

  async release(): Promise<void> {
    await this.#lease.release(this.#said);
  }

  /** The browser's session that a test before this one has kept. */
  get storageState(): StorageState | undefined {
    return this.user.secrets?.[STORAGE_STATE] as StorageState | undefined;
  }

  async keepStorageState(state: StorageState): Promise<void> {
    await this.#lease.writeBack(this.user.id, { secrets: { [STORAGE_STATE]: state } });
  }
}
