import { expect, test } from "./shop";

for (const [product, price] of [
  ["tea", "4.50"],
  ["coffee", "6.90"],
  ["bread", "3.10"],
]) {
  test(`an order of ${product} costs ${price}`, async ({ page }) => {
    await page.goto("/");
    await page.getByRole("button", { name: `Add ${product}` }).click();
    await page.getByRole("button", { name: "Order" }).click();
    await expect(page.getByText(new RegExp(`^Order \\d+ of ${price} is on its way\\.$`))).toBeVisible();
  });
}

test("the account is the bot's", async ({ bot, page }) => {
  await page.goto("/account");
  await expect(page.getByRole("paragraph")).toHaveText(bot.login);
});
