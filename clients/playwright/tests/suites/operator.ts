/** What an operator does to a test. */

export async function forceRelease(leaseId: string): Promise<void> {
  await fetch(`${process.env["BOTFARM_URL"]}/api/v1/leases/${leaseId}/force_release`, {
    method: "POST",
    headers: { Authorization: `Bearer ${process.env["BOTFARM_TOKEN"]}`, "Content-Type": "application/json" },
    body: JSON.stringify({ reason: "wanted elsewhere" }),
  });
}
