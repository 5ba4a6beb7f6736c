import { test as base } from "../../src/index";
import { forceRelease } from "./operator";

const test = base.extend({
  // Between `botUser` and `bot`.
  context: async ({ context, botUser }, use) => {
    await forceRelease(botUser.lease.id);
    const { lost } = botUser.lease;
    if (!lost.aborted) await new Promise((resolve) => lost.addEventListener("abort", resolve));
    await use(context);
  },
});

test.use({ botSession: undefined });

test("never begins", async ({ bot: _ }) => {
  console.log("it has begun");
});
