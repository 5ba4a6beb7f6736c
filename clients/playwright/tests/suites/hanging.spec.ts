import { test } from "../../src/index";

test.use({ botSession: undefined });

test("hangs", async ({ botUser }) => {
  if (process.env["SHORT"]) test.setTimeout(2_000);
  else test.setTimeout(300_000);
  console.log(`holding ${botUser.lease.id}`);
  await new Promise(() => {});
});
