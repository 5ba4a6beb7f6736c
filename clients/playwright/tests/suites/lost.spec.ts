import { expect, test } from "../../src/index";
import { forceRelease } from "./operator";

test("goes on clicking", async ({ bot, page }) => {
  await page.goto("/cart");
  await forceRelease(bot.lease.id);
  await expect(page.getByText("what never comes")).toBeVisible({ timeout: 60_000 });
});
