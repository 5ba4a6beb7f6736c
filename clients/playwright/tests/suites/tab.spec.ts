import { test } from "../../src/index";
import { siteSession } from "./site";

const session = siteSession("tab");

test.describe("by itself", () => {
  test.use({ botSession: session });

  test("is signed in in one page only", async ({ bot: _ }) => {});
});

test.describe("with a copy", () => {
  test.use({
    botSession: {
      ...session,
      async signIn(page, bot) {
        await session.signIn(page, bot);
        const kept = await page.evaluate(() => ({ origin: location.origin, entries: Object.entries(sessionStorage) }));
        await page.context().addInitScript(({ origin, entries }) => {
          if (location.origin === origin) for (const [name, value] of entries) sessionStorage.setItem(name, value);
        }, kept);
      },
    },
  });

  for (const number of [1, 2]) test(`number ${number}`, async ({ bot: _ }) => {});
});
