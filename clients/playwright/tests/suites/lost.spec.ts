import { expect, test } from "../../src/index";

test("goes on clicking", async ({ bot, page }) => {
  await page.goto("/cart");
  await fetch(`${process.env["BOTFARM_URL"]}/api/v1/leases/${bot.lease.id}/force_release`, {
    method: "POST",
    headers: { Authorization: `Bearer ${process.env["BOTFARM_TOKEN"]}`, "Content-Type": "application/json" },
    body: JSON.stringify({ reason: "wanted elsewhere" }),
  });
  await expect(page.getByText("what never comes")).toBeVisible({ timeout: 60_000 });
});
