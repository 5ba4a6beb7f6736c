import { shopSession } from "../../../../examples/shop/playwright/session";
import { test } from "../../src/index";

test.use({ botSession: { ...shopSession, signIn: async (page) => void (await page.goto("/")) } });

test("is never signed in", async ({ bot: _ }) => {});
