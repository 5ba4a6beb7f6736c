import { expect, test } from "./shop";

for (const product of ["tea", "coffee", "honey", "jam", "bread", "butter", "apples", "pears"]) {
  test(`${product} goes into the cart`, async ({ page }) => {
    await page.goto("/");
    await page.getByRole("button", { name: `Add ${product}` }).click();
    await expect(page.getByRole("listitem")).toHaveText([`1 x ${product}`]);
  });

  test(`${product} goes out of the cart again`, async ({ page }) => {
    await page.goto("/");
    await page.getByRole("button", { name: `Add ${product}` }).click();
    await page.getByRole("button", { name: "Empty the cart" }).click();
    await expect(page.getByText("Your cart is empty.")).toBeVisible();
  });
}

test("the same twice is one line", async ({ page }) => {
  for (let times = 0; times < 2; times += 1) {
    await page.goto("/");
    await page.getByRole("button", { name: "Add honey" }).click();
  }
  await expect(page.getByRole("listitem")).toHaveText(["2 x honey"]);
  await expect(page.getByRole("strong")).toHaveText("16.40");
});
