import { expect, test } from "../../src/index";

test.describe("alike", () => {
  test.use({ botKinds: { giver: {}, taker: {} } });

  test("two users alike", async ({ bots: { giver, taker } }) => {
    for (const bot of [giver!, taker!]) {
      await bot.page.goto("/account");
      await expect(bot.page.getByText(bot.login).first()).toBeVisible();
      expect(bot.page.context()).toBe(bot.context);
    }
    expect(giver!.context).not.toBe(taker!.context);
    taker!.mark("dirty", { note: "a gift in the cart" });
  });
});

test.describe("kinds", () => {
  test.use({ botKinds: { customer: {}, agent: { labels: { role: "agent" } } } });

  test("two users of different kinds", async ({ bots: { customer, agent } }) => {
    expect(agent!.user.labels).toEqual({ role: "agent" });
    expect(customer!.user.labels).toEqual({});
    await agent!.page.goto("/account");
    await expect(agent!.page.getByText(agent!.login).first()).toBeVisible();
  });
});
