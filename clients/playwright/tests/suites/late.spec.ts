import { test } from "../../src/index";

test.use({ botSession: undefined });

test("is through before it hears of it", async ({ botUser }) => {
  await fetch(`${process.env["BOTFARM_URL"]}/api/v1/leases/${botUser.lease.id}/force_release`, {
    method: "POST",
    headers: { Authorization: `Bearer ${process.env["BOTFARM_TOKEN"]}`, "Content-Type": "application/json" },
    body: JSON.stringify({ reason: "wanted elsewhere" }),
  });
});
