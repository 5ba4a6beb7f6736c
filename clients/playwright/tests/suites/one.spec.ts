import { expect, test } from "../../src/index";

test("is signed in", async ({ page, bot }) => {
  await page.goto("/account");
  await expect(page.getByText(bot.login).first()).toBeVisible();
});
