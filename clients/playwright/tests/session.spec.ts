/** What tests leave of their sessions to later ones, in suites of their own, with a real browser. */

import { type BrowserContext, expect, test as base } from "@playwright/test";

import type { Bot } from "../src/bot";
import { type BotSession, KeptSession } from "../src/session";
import { PASSWORD, Project } from "./support/farm";
import { Site } from "./support/site";
import { run } from "./support/suite";
import type { Area } from "./suites/site";

const test = base.extend<{ site: Site }>({
  site: async ({}, use) => {
    const site = await Site.open();
    await use(site);
    site.close();
  },
});

// One after another: each starts browsers.
test.describe.configure({ mode: "default", timeout: 240_000 });

/** Two tests, one after the other, each of which looks at its account. */
function twice(project: Project, site: Site, area: Area, options: Partial<BotSession> = {}) {
  return run(project, { files: ["twice"], env: { SITE_URL: site.url, AREA: area, OPTIONS: JSON.stringify(options) } });
}

test("with keep: test the newest state is kept, and one that is not proven is forgotten", async ({ site }) => {
  const project = await Project.withUsers(1);
  const ran = await run(project, { files: ["rotating"], env: { SITE_URL: site.url } });
  const failed = [...ran.results].filter(([, { status }]) => status !== "passed").map(([title]) => title);
  expect(failed, ran.text).toEqual(["fails"]);
  expect(site.log).toEqual([
    ...["sign-in", "passes", "fails", "closes its page", "signs out"],
    ...["sign-in", "closes its context"],
    ...["sign-in", "fills its storage"],
    ...["sign-in", "meets a silent site"],
    ...["sign-in", "is the last"],
  ]);
  const warnings = (title: string) => JSON.stringify(ran.results.get(title)?.stderr);
  expect(warnings("signs out")).toBe("[]");
  expect(warnings("closes its context")).toContain("the session of user-1@shop.test is not kept: ");
  expect(warnings("fills its storage")).toContain("is not kept: 422 invalid-request: secrets: must be at most 262144 bytes of JSON");
  expect(warnings("meets a silent site")).toContain("is not kept: it took longer than 2.5 s");
});

for (const [what, area, options, log] of [
  ["by default a state is kept as it was after the sign-in", "rotating", {}, ["sign-in", "replay", "sign-in"]],
  ["a sign-in in IndexedDB is kept", "database", {}, ["sign-in"]],
  ["IndexedDB is left out where botSession says so", "database", { indexedDB: false }, ["sign-in", "sign-in"]],
] as const) {
  test(what, async ({ site }) => {
    const ran = await twice(await Project.withUsers(1), site, area, options);
    expect(ran.exitCode, ran.text).toBe(0);
    expect(site.log).toEqual(log);
  });
}

test("a sign-in in session storage is named, with a way out that works", async ({ site }) => {
  const project = await Project.withUsers(1);
  const ran = await run(project, { files: ["tab"], env: { SITE_URL: site.url } });
  const result = ran.results.get("is signed in in one page only");
  expect(result?.errors[0]?.message).toContain("user-1@shop.test: the site keeps its sign-in in session storage");
  expect(ran.text).not.toContain("a-secret-of-the-tab");
  expect([1, 2].map((number) => ran.results.get(`number ${number}`)?.status)).toEqual(["passed", "passed"]);
  expect(site.log).toHaveLength(3);
});

test("a session that says when it ends is due before", async ({ site }) => {
  const project = await Project.withUsers(1, { session_refresh: 3_600 });
  const before = Date.now();
  const ran = await twice(project, site, "database", { expiresIn: 600 });
  expect(ran.exitCode, ran.text).toBe(0);
  const end = Date.parse((await project.users())[0]?.session_expires_at ?? "");
  expect(end - 600_000).toBeGreaterThanOrEqual(before);
  expect(end - 600_000).toBeLessThanOrEqual(Date.now());
  await project.client().withLease({ purpose: "chore" }, async ({ user }) => expect(user.due).toEqual(["session"]));
});

for (const [what, storage_state] of [
  ["is a text", "a-secret-as-text"],
  ["has a cookie without a value", { cookies: [{ name: "a-secret-as-name" }], origins: [] }],
]) {
  test(`a kept session that ${what} costs a sign-in, and is not shown`, async ({ site }) => {
    const project = await Project.create();
    await project.addUser("ann@shop.test", PASSWORD, { secrets: { storage_state } });
    const ran = await twice(project, site, "database");
    expect(ran.exitCode, ran.text).toBe(0);
    expect(ran.text).toContain("the session of ann@shop.test cannot be restored: ");
    expect(ran.text).not.toContain("a-secret");
    expect(site.log).toEqual(["sign-in"]);
  });
}

test("a wrong botSession is told at once", () => {
  const of = (session: object, context: object = { setStorageState() {} }) => {
    return () => new KeptSession(context as BrowserContext, {} as Bot, session as BotSession);
  };
  expect(of({ keep: "tests" })).toThrow('botSession.keep: give "sign-in" or "test"');
  for (const expiresIn of [0, -1, Number.NaN, "8h"]) expect(of({ expiresIn })).toThrow("botSession.expiresIn: give seconds");
  expect(of({}, {})).toThrow("botSession needs @playwright/test 1.59 or newer");
});

test("an isSignedIn that answers with a locator is no proof", async () => {
  const newPage = () => Promise.resolve({ close: () => Promise.resolve() });
  const context = { setStorageState() {}, newPage } as unknown as BrowserContext;
  const session = { signIn: () => Promise.resolve(), isSignedIn: () => Promise.resolve({}) } as unknown as BotSession;
  const opened = new KeptSession(context, {} as Bot, session).open();
  await expect(opened).rejects.toThrow("botSession.isSignedIn: give true or false");
});
