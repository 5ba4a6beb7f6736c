import { expect, test } from "../../src/index";
import { forceRelease } from "./operator";

test.use({ botKinds: { ann: {}, bob: {} } });

test("goes on with both", async ({ bots: { ann } }) => {
  await ann!.page.goto("/cart");
  await forceRelease(ann!.lease.id);
  await expect(ann!.page.getByText("what never comes")).toBeVisible({ timeout: 60_000 });
});
