import { expect, test } from "../../src/index";

test.use({ botScope: "worker" });

for (const number of [1, 2, 3]) {
  test(`number ${number}`, async ({ bot, page }) => {
    await page.goto("/account");
    await expect(page.getByText(bot.login).first()).toBeVisible();
    if (number === 1) bot.mark("ok", { note: "nothing happened" });
    if (number === 2) bot.mark("broken", { reason: "captcha", note: "with traffic lights" });
  });
}
