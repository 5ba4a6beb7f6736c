/** Signing in once for each user, not once for each test. */

import type { BrowserContext, Page } from "@playwright/test";

import type { Bot, StorageState } from "./bot";
import { pause } from "./clock";
import { BotfarmError, SettingsError } from "./errors";
import { maskInLog } from "./masks";
import { fillSessionStorage, type SessionStorage, sessionStorageOf } from "./session_storage";

/** How to sign in to the system under test. Both functions get a page of the test's context, closed afterwards. */
export interface BotSession {
  signIn(page: Page, bot: Bot): Promise<void>;
  /** Goes to a page that shows it, and looks. */
  isSignedIn(page: Page, bot: Bot): Promise<boolean>;
  /** The state that later tests begin with: as it was after the sign-in, which is the default, or after the last test. */
  keep?: "sign-in" | "test";
  /** Whether IndexedDB is kept, too: true by default. */
  indexedDB?: boolean;
  /** Seconds that a session lasts from when it is kept, where that is known: keepers refresh it before its end. */
  expiresIn?: number;
}

/** The session of the user in one context, from the sign-in to what later tests get of it. */
export class KeptSession {
  readonly #context: BrowserContext;
  readonly #bot: Bot;
  readonly #how: BotSession;

  /** Throws SettingsError. */
  constructor(context: BrowserContext, bot: Bot, how: BotSession) {
    check(how);
    if (!("setStorageState" in context)) throw new SettingsError("botSession needs @playwright/test 1.59 or newer");
    this.#context = context;
    this.#bot = bot;
    this.#how = how;
  }

  /** Puts the kept session into the context, or signs in. */
  async open(): Promise<void> {
    if (await this.#isRestored()) return;
    const left = await this.#onPage(async (page) => {
      await this.#how.signIn(page, this.#bot);
      return sessionStorageOf(page);
    });
    if (!(await this.#isSignedIn())) throw new BotfarmError(`${this.#bot.login}: ${await this.#whyNot(left)}`);
    try {
      const state = await this.#state();
      if (this.#how.keep !== "test") await this.#keep(state);
    } catch (error) {
      this.#warn("is not kept", error);
    }
  }

  /**
   * Keeps the session as the test has left it, where `keep` says so, whether the test has passed or not. Fails no test.
   *
   * @param limit Milliseconds, for each of up to three steps.
   */
  async keepAfterTest(limit: number): Promise<void> {
    if (this.#how.keep !== "test" || this.#bot.lease.lost.aborted) return;
    try {
      if (await within(limit, this.#isSignedIn())) {
        await within(limit, this.#state().then((state) => this.#keep(state)));
        return;
      }
    } catch (error) {
      this.#warn("is not kept", error);
    }
    try {
      // The site may have replaced the older state, and then ends the session of a test that begins with it.
      await within(limit, this.#bot.forgetStorageState());
    } catch (error) {
      this.#warn("stays as it was before the test", error);
    }
  }

  async #isRestored(): Promise<boolean> {
    const kept = this.#bot.storageState;
    if (!kept) return false;
    const before = await this.#context.storageState({ indexedDB: true });
    if ((await this.#fits(kept)) && (await this.#isSignedIn())) return true;
    await this.#context.setStorageState(before); // nothing of a stale session stays
    return false;
  }

  async #fits(kept: unknown): Promise<boolean> {
    try {
      // Of a text Playwright would think that it is the path of a file, and name it in its error.
      if (typeof kept !== "object") throw new BotfarmError("its secret storage_state is no object");
      await this.#context.setStorageState(kept as StorageState);
      return true;
    } catch (error) {
      this.#warn("cannot be restored", error);
      return false;
    }
  }

  async #isSignedIn(storage?: SessionStorage): Promise<boolean> {
    const answer = await this.#onPage(async (page): Promise<unknown> => {
      if (storage) await page.addInitScript(fillSessionStorage, storage);
      return this.#how.isSignedIn(page, this.#bot);
    });
    // A locator, which many forget to ask, would always be a yes.
    if (typeof answer !== "boolean") throw new BotfarmError("botSession.isSignedIn: give true or false");
    return answer;
  }

  /** Session storage is the reason if with it the answer is yes, and without it no again. */
  async #whyNot(storage: SessionStorage | undefined): Promise<string> {
    const isReason = storage && (await this.#isSignedIn(storage)) && !(await this.#isSignedIn());
    if (!isReason) return "signIn is through, and isSignedIn says no";
    return (
      "the site keeps its sign-in in session storage, which no other page has, and which cannot be kept. " +
      'Let the site use cookies, local storage or IndexedDB, or see "Session storage" in docs/playwright.md'
    );
  }

  /** Read after isSignedIn has said yes: what is kept is proven. */
  async #state(): Promise<StorageState> {
    const state = await this.#context.storageState({ indexedDB: this.#how.indexedDB ?? true });
    maskInLog({ ...this.#bot.user, secrets: { state } });
    return state;
  }

  async #keep(state: StorageState): Promise<void> {
    await this.#bot.keepStorageState(state, this.#how.expiresIn);
  }

  /** A session that cannot be kept costs a sign-in, not a test. */
  #warn(what: string, error: unknown): void {
    console.warn(`botfarm: the session of ${this.#bot.login} ${what}: ${(error as Error).message}`);
  }

  async #onPage<Result>(look: (page: Page) => Promise<Result>): Promise<Result> {
    const page = await this.#context.newPage();
    try {
      return await look(page);
    } finally {
      await page.close();
    }
  }
}

function check({ keep, expiresIn }: BotSession): void {
  if (keep !== undefined && keep !== "sign-in" && keep !== "test") {
    throw new SettingsError('botSession.keep: give "sign-in" or "test"');
  }
  if (expiresIn !== undefined && !(expiresIn > 0 && Number.isFinite(expiresIn))) {
    throw new SettingsError("botSession.expiresIn: give seconds");
  }
}

async function within<Result>(milliseconds: number, promise: Promise<Result>): Promise<Result> {
  const over = new AbortController();
  const late = async (): Promise<never> => {
    await pause(milliseconds, { signal: over.signal });
    throw new BotfarmError(`it took longer than ${milliseconds / 1_000} s`);
  };
  try {
    return await Promise.race([promise, late()]);
  } finally {
    over.abort();
  }
}
