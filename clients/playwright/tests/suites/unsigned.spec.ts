import { type Bot, test as base } from "../../src/index";

interface Fixtures {
  careless: void;
}

const test = base.extend<Fixtures>({
  careless: async ({ page }, use) => {
    await use();
    await page.goto("/cart");
  },
});

const refuse = async (_: unknown, bot: Bot) => {
  bot.mark("broken", { reason: "credential_rejected" });
  throw new Error("no sign-in today");
};

test.use({ botSession: { signIn: refuse, isSignedIn: () => Promise.resolve(false) } });

test("has no sign-in", async ({ careless: _, bot: __ }) => {});
