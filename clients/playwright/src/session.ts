/** Signing in once for each user, not once for each test. */

import type { BrowserContext, Page } from "@playwright/test";

import type { Bot } from "./bot";
import { BotfarmError } from "./errors";
import { maskInLog } from "./masks";

/** How the system under test is signed in to. Both get a page of the test's context, closed afterwards. */
export interface BotSession {
  signIn(page: Page, bot: Bot): Promise<void>;
  /** Goes to a page that shows it, and looks. */
  isSignedIn(page: Page, bot: Bot): Promise<boolean>;
}

/** Puts the kept session into the context, or signs in and keeps that. */
export async function signedIn(context: BrowserContext, bot: Bot, session: BotSession): Promise<void> {
  const isSignedIn = () => onPage(context, (page) => session.isSignedIn(page, bot));
  if (bot.storageState) {
    const before = await context.storageState();
    await context.setStorageState(bot.storageState);
    if (await isSignedIn()) return;
    await context.setStorageState(before); // nothing of a stale session stays
  }
  await onPage(context, (page) => session.signIn(page, bot));
  if (!(await isSignedIn())) throw new BotfarmError(`${bot.login}: signIn is through, and isSignedIn says no`);
  await keep(context, bot);
}

/** A session that cannot be kept costs a sign-in, not a test. */
async function keep(context: BrowserContext, bot: Bot): Promise<void> {
  try {
    await bot.keepStorageState(await context.storageState());
    maskInLog(bot.user);
  } catch (error) {
    console.warn(`botfarm: the session of ${bot.login} is not kept: ${(error as Error).message}`);
  }
}

async function onPage<Result>(context: BrowserContext, look: (page: Page) => Promise<Result>): Promise<Result> {
  const page = await context.newPage();
  try {
    return await look(page);
  } finally {
    await page.close();
  }
}
