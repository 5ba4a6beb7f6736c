import type { BotSession } from "@botfarm/playwright";

export const shopSession: BotSession = {
  async signIn(page, bot) {
    await page.goto("/sign-in");
    await page.getByLabel("E-mail").fill(bot.login);
    await page.getByLabel("Password").fill(bot.password);
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.waitForURL("/account");
  },

  async isSignedIn(page, bot) {
    await page.goto("/account");
    return page.getByRole("link", { name: bot.login }).isVisible();
  },
};
