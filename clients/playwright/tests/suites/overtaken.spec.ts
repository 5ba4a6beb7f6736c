import { test as base } from "../../src/index";

const test = base.extend({
  // Between `botUser` and `bot`.
  context: async ({ context, botUser }, use) => {
    await fetch(`${process.env["BOTFARM_URL"]}/api/v1/leases/${botUser.lease.id}/force_release`, {
      method: "POST",
      headers: { Authorization: `Bearer ${process.env["BOTFARM_TOKEN"]}`, "Content-Type": "application/json" },
      body: JSON.stringify({ reason: "wanted elsewhere" }),
    });
    const { lost } = botUser.lease;
    if (!lost.aborted) await new Promise((resolve) => lost.addEventListener("abort", resolve));
    await use(context);
  },
});

test.use({ botSession: undefined });

test("never begins", async ({ bot: _ }) => {
  console.log("it has begun");
});
