import { test as base, type TestInfo } from "@playwright/test";

import type { Bot } from "./bot";
import { ciJob, tail } from "./ci";
import type { Wanted } from "./client";
import { Keeper, type Scope } from "./keeper";
import { maskInLog } from "./masks";
import { type BotSession, KeptSession } from "./session";

const LONGEST_OWNER = 200;
/** Milliseconds that a step of keeping the session after a test may take. */
const LONGEST_KEEPING = 10_000;

export interface BotOptions {
  /** Name or id; else BOTFARM_PROJECT. */
  botProject: string | undefined;
  /** Else BOTFARM_ENV. */
  botEnv: string | undefined;
  /** Else the first of the project's. */
  botDomain: string | undefined;
  /** For each label a value that the user has, several of which it has one, or null: it has no such label. */
  botLabels: Record<string, string | string[] | null>;
  /** Seconds to wait for a user; they are not the test's. */
  botWait: number;
  /** Whether each test takes a user, or each worker. */
  botScope: Scope;
  /** How to sign in: without it nobody does. */
  botSession: BotSession | undefined;
}

export interface BotFixtures {
  /** The test's own user, signed in in its `context` and `page` where `botSession` says how. */
  bot: Bot;
  /** The same user without a browser, for tests of an API. */
  botUser: Bot;
}

interface WorkerFixtures {
  _botKeeper: Keeper;
}

export const test = base.extend<BotOptions & BotFixtures, WorkerFixtures>({
  botProject: [undefined, { option: true }],
  botEnv: [undefined, { option: true }],
  botDomain: [undefined, { option: true }],
  botLabels: [{}, { option: true }],
  botWait: [120, { option: true }],
  botScope: ["test", { option: true }],
  botSession: [undefined, { option: true }],

  _botKeeper: [
    async ({}, use) => {
      const keeper = new Keeper();
      await use(keeper);
      await keeper.close();
    },
    { scope: "worker", box: true },
  ],

  botUser: [
    async ({ _botKeeper, botProject, botEnv, botDomain, botLabels, botWait, botScope }, use, testInfo) => {
      const wanted: Wanted = {
        ...(botProject && { project: botProject }),
        ...(botEnv && { env: botEnv }),
        ...(botDomain && { domain: botDomain }),
        labels: botLabels,
        wait: botWait,
      };
      const bot = await _botKeeper.take(wanted, aboutTest(testInfo), botScope);
      try {
        maskInLog(bot.user);
        await report(bot, testInfo);
        await use(bot);
      } finally {
        await _botKeeper.putBack(bot);
      }
    },
    { timeout: 0 }, // it ends by itself, and a wait is no fault of the test
  ],

  bot: async ({ botUser, botSession, context }, use, testInfo) => {
    const { lost } = botUser.lease;
    const session = botSession && new KeptSession(context, botUser, botSession);
    // Whatever the test does at that moment fails at once, and touches nobody else's account.
    const stop = () => void context.close({ reason: (lost.reason as Error).message }).catch(() => undefined);
    try {
      lost.addEventListener("abort", stop);
      lost.throwIfAborted(); // who listens too late never hears of it
      await session?.open();
      await use(botUser);
      await session?.keepAfterTest(keepingTime(testInfo));
    } finally {
      lost.removeEventListener("abort", stop);
      // A page that is still open could go on with the user when that is somebody else's.
      await context.close();
    }
  },
});

/** A quarter of the time that Playwright gives to what comes after a test, because keeping has up to three steps. */
function keepingTime({ timeout }: TestInfo): number {
  return timeout ? Math.min(LONGEST_KEEPING, timeout / 4) : LONGEST_KEEPING;
}

function aboutTest(testInfo: TestInfo): Wanted {
  const where = `${testInfo.titlePath[0]}:${testInfo.line}`;
  return {
    owner: tail(testInfo.titlePath.join(" › "), LONGEST_OWNER),
    metadata: { ...ciJob(), test: tail(where, LONGEST_OWNER), worker: testInfo.parallelIndex, retry: testInfo.retry },
  };
}

async function report(bot: Bot, testInfo: TestInfo): Promise<void> {
  testInfo.annotations.push({ type: "botfarm", description: `${bot.login}, lease ${bot.lease.id}` });
  await testInfo.attach("botfarm", { body: JSON.stringify(bot.lease, null, 2), contentType: "application/json" });
}
