import { test } from "../../src/index";
import { forceRelease } from "./operator";

test.use({ botSession: undefined });

test("is through before it hears of it", async ({ botUser }) => {
  await forceRelease(botUser.lease.id);
});
