import { test as base } from "../../src/index";

interface Fixtures {
  thoughtful: void;
  careless: void;
}

const test = base.extend<Fixtures>({
  thoughtful: async ({ bot: _, page }, use) => {
    await use();
    await page.goto("/cart");
  },
  careless: async ({ page }, use) => {
    await use();
    await page.goto("/cart");
  },
});

test("thoughtful", async ({ thoughtful: _ }) => {});

test("careless", async ({ careless: _, bot: __ }) => {});
