/** Without a browser: a worker that keeps its user takes others for a test that wants several. */

import { expect, test } from "../../src/index";

test.use({ botScope: "worker", botKinds: { ann: {}, bob: {} } });

test("has the user of the worker", async ({ botUser }) => {
  expect(botUser.login).toContain("@");
});

test("has both users", async ({ botUsers: { ann, bob } }) => {
  expect(new Set([ann!.login, bob!.login]).size).toBe(2);
  expect(ann!.lease).toBe(bob!.lease);
});

test.describe("too many", () => {
  test.use({ botKinds: { ann: {}, bob: {}, agent: { labels: { role: "agent" } } }, botWait: 0 });

  test("gives back what it has got", async ({ botUsers: _ }) => {});
});

test.describe("none", () => {
  test.use({ botKinds: {} });

  test("says no users", async ({ botUsers: _ }) => {});
});
