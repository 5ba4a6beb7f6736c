/** Tests that leave their session in many ways, one after another. */

import { expect, test as base } from "../../src/index";
import { siteSession } from "./site";

const test = base.extend({
  page: async ({ page, bot: _ }, use, testInfo) => {
    await page.goto(`/said/${testInfo.title}`);
    await use(page);
  },
});

test.use({ baseURL: process.env["SITE_URL"]!, botSession: { ...siteSession("rotating"), keep: "test" } });

test("passes", async ({ page }) => {
  await page.goto("/rotating/account");
});

test("fails", async ({ page }) => {
  await page.goto("/rotating/account");
  expect(1).toBe(2);
});

test("closes its page", async ({ page }) => {
  await page.goto("/rotating/account");
  await page.close();
});

test("signs out", async ({ page }) => {
  await page.goto("/rotating/sign-out");
});

test("closes its context", async ({ page }) => {
  await page.goto("/rotating/account");
  await page.context().close();
});

test("fills its storage", async ({ page }) => {
  await page.evaluate(() => localStorage.setItem("much", "x".repeat(300_000)));
});

test("meets a silent site", async ({ page }) => {
  test.setTimeout(10_000);
  await page.context().addCookies([{ name: "silent", value: "1", url: process.env["SITE_URL"]! }]);
});

test("is the last", async ({ page: _ }) => {});
