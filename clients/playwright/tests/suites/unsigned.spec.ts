import { test as base } from "../../src/index";

interface Fixtures {
  careless: void;
}

const test = base.extend<Fixtures>({
  careless: async ({ page }, use) => {
    await use();
    await page.goto("/cart");
  },
});

const refuse = () => Promise.reject(new Error("no sign-in today"));

test.use({ botSession: { signIn: refuse, isSignedIn: refuse } });

test("has no sign-in", async ({ careless: _, bot: __ }) => {});
