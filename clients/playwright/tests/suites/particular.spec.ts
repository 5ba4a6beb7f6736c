/** Without a browser: one particular user, whatever the other options say. */

import { expect, test } from "../../src/index";

const login = process.env["LOGIN"]!;

test.use({ botLabels: { role: "nobody" }, botWait: 0 });

test.describe("one", () => {
  test.use({ botUserLogin: login });

  test("has it", async ({ botUser }) => {
    expect(botUser.login).toBe(login);
    console.log("holding it");
  });
});

test.describe("beside others", () => {
  test.use({ botKinds: { customer: { labels: {} }, agent: { user: login } } });

  test("has it beside others", async ({ botUsers: { customer, agent } }) => {
    expect(agent!.login).toBe(login);
    expect(customer!.login).not.toBe(login);
  });
});

test.describe("none", () => {
  test.use({ botUserLogin: "nobody@shop.test" });

  test("misspelt", async ({ botUser: _ }) => {});
});
