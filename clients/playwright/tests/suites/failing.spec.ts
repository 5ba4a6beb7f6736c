import { expect, test } from "../../src/index";

test.use({ screenshot: "on", trace: "on" });

test("fails", async ({ bot, page }) => {
  await page.goto("/cart");
  bot.mark("dirty");
  expect(1).toBe(2);
});
