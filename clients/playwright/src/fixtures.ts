import { test as base, type TestInfo } from "@playwright/test";

import { type Bot, BotWithPage } from "./bot";
import { Browsing } from "./browsing";
import { ciJob, tail } from "./ci";
import type { Wanted } from "./client";
import { SettingsError } from "./errors";
import { type BotKind, ofKind } from "./kinds";
import { Keeper, leasesOf, type Scope } from "./keeper";
import { maskInLog } from "./masks";
import type { BotSession } from "./session";

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
  /** The login of one particular user for `bot`: domain and labels do not matter. */
  botUserLogin: string | undefined;
  /** The users of `bots`, by the names that the test gives them. */
  botKinds: Record<string, BotKind>;
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
  /** The users of `botKinds`, each signed in in a context and a page of its own. */
  bots: Record<string, BotWithPage>;
  /** The same users without a browser. */
  botUsers: Record<string, Bot>;
}

interface WorkerFixtures {
  _botKeeper: Keeper;
}

interface InnerFixtures {
  /** What a request asks for, whichever user it is for. */
  _botShared: Wanted;
}

export const test = base.extend<BotOptions & BotFixtures & InnerFixtures, WorkerFixtures>({
  botProject: [undefined, { option: true }],
  botEnv: [undefined, { option: true }],
  botDomain: [undefined, { option: true }],
  botLabels: [{}, { option: true }],
  botUserLogin: [undefined, { option: true }],
  botKinds: [{}, { option: true }],
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

  _botShared: async ({ botProject, botEnv, botDomain, botLabels, botWait }, use) => {
    await use({
      ...(botProject && { project: botProject }),
      ...(botEnv && { env: botEnv }),
      ...(botDomain && { domain: botDomain }),
      labels: botLabels,
      wait: botWait,
    });
  },

  botUser: [
    async ({ _botKeeper, _botShared, botUserLogin, botScope }, use, testInfo) => {
      const wanted = ofKind(_botShared, botUserLogin ? { user: botUserLogin } : {});
      const bot = await _botKeeper.take(wanted, aboutTest(testInfo), botScope);
      try {
        await report([bot], testInfo);
        await use(bot);
      } finally {
        await _botKeeper.putBack(bot);
      }
    },
    { timeout: 0 }, // it ends by itself, and a wait is no fault of the test
  ],

  botUsers: [
    async ({ _botKeeper, _botShared, botKinds }, use, testInfo) => {
      const names = Object.keys(botKinds);
      if (names.length === 0) throw new SettingsError("bots: say which users, as botKinds: { giver: {}, taker: {} }");
      const wanted = Object.values(botKinds).map((kind) => ofKind(_botShared, kind));
      const bots = await _botKeeper.takeAll(wanted, aboutTest(testInfo));
      try {
        await report(bots, testInfo, names);
        await use(Object.fromEntries(bots.map((bot, index) => [names[index]!, bot])));
      } finally {
        await _botKeeper.putAllBack(bots);
      }
    },
    { timeout: 0 },
  ],

  bot: async ({ botUser, botSession, context }, use, testInfo) => {
    const browsing = new Browsing(context, botUser, botSession);
    try {
      await browsing.open();
      await use(botUser);
      await browsing.keepSession(keepingTime(testInfo));
    } finally {
      await browsing.close();
    }
  },

  bots: async ({ botUsers, botSession, browser }, use, testInfo) => {
    const browsings: Browsing[] = [];
    const bots: Record<string, BotWithPage> = {};
    try {
      for (const [name, user] of Object.entries(botUsers)) {
        const context = await browser.newContext(); // with all options of the test's own context
        const browsing = new Browsing(context, user, botSession);
        browsings.push(browsing);
        await browsing.open();
        bots[name] = new BotWithPage(user, await context.newPage());
      }
      await use(bots);
      await Promise.all(browsings.map((each) => each.keepSession(keepingTime(testInfo))));
    } finally {
      await Promise.all(browsings.map((each) => each.close()));
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

/** @param names What the test calls them, where it has several. */
async function report(bots: readonly Bot[], testInfo: TestInfo, names: readonly string[] = []): Promise<void> {
  bots.forEach(({ user, login, lease }, index) => {
    maskInLog(user);
    const name = names[index] === undefined ? "" : `${names[index]}: `;
    testInfo.annotations.push({ type: "botfarm", description: `${name}${login}, lease ${lease.id}` });
  });
  for (const lease of leasesOf(bots)) {
    await testInfo.attach("botfarm", { body: JSON.stringify(lease, null, 2), contentType: "application/json" });
  }
}
