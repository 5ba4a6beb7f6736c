/** The tests' `test`: the bot's cart is empty when one begins. */

import { expect, test as base } from "@botfarm/playwright";

export { expect };

export const test = base.extend({
  page: async ({ bot: _, page }, use) => {
    await page.request.post("/cart/empty");
    await use(page);
  },
});
