/** The fixture in suites of its own, with a real browser, against the farm and the shop. */

import { expect, test } from "@playwright/test";

import type { LeaseAnswer, StorageState } from "../src/index";
import { api, lease as stateOf, Project, shopStats, shopUrl } from "./support/farm";
import { leaseOf, OF_THE_SHOP, run } from "./support/suite";

// One after another: each counts what happens in the shop, and each starts browsers.
test.describe.configure({ mode: "default" });

const first = <Value>(values: Map<string, Value>): Value => [...values.values()][0]!;

test("of the shop's suite only the first test of each user signs in, and nobody is thrown out", async () => {
  test.setTimeout(300_000); // a suite of 21 tests, each in a browser
  const project = await Project.ofTheShop(2);
  const before = await shopStats();
  const ran = await run(project, { folder: OF_THE_SHOP, workers: 3, env: { CI: "", BUILD_URL: "" } });
  expect(ran.exitCode, ran.text).toBe(0);
  const after = await shopStats();
  expect(after.thrown_out).toBe(before.thrown_out);
  const users = await project.users();
  expect(users.map(({ has_secrets }) => has_secrets)).toEqual([true, true]);
  expect(after.sign_ins - before.sign_ins).toBe(users.length);

  expect(ran.results.size).toBe(21);
  const leases = new Map((await project.leases()).map((lease) => [lease.id, lease]));
  expect(leases.size).toBe(ran.results.size);
  for (const [title, result] of ran.results) {
    const attached = leaseOf(result);
    const lease = leases.get(attached.id);
    expect(lease).toMatchObject({ ended_by: "released", outcome: "ok" });
    expect(lease?.owner).toContain(title);
    expect(lease?.users[0]?.login).toBe(attached.users[0]?.login);
    expect(lease?.metadata).toMatchObject({ test: expect.stringMatching(/\.spec\.ts:\d+$/), worker: expect.any(Number) });
    const shown = `${attached.users[0]?.login}, lease ${attached.id}`;
    expect(ran.annotations.get(title)).toContainEqual(expect.objectContaining({ type: "botfarm", description: shown }));
  }
  for (const { password } of await credentials(project)) expect(ran.text).not.toContain(password);
});

test("in GitHub Actions passwords are masked in the log, past Playwright's reports", async () => {
  const project = await Project.ofTheShop(1);
  const ran = await run(project, { files: ["one"], env: { GITHUB_ACTIONS: "true" }, piped: true });
  expect(first(ran.results).status, ran.text).toBe("passed");
  const [user] = await credentials(project);
  expect(ran.output.split("\n")).toContain(`::add-mask::${user?.password}`);
  expect(JSON.stringify([...ran.results.values()])).not.toContain(user?.password);
  const elsewhere = await run(project, { files: ["one"], env: { GITHUB_ACTIONS: "" } });
  expect(elsewhere.output).not.toContain("add-mask");
});

test("a session that the shop has ended is replaced, once", async () => {
  const project = await Project.ofTheShop(1);
  const signIns = async () => {
    const before = await shopStats();
    const ran = await run(project, { files: ["one"] });
    expect(ran.exitCode, ran.text).toBe(0);
    return (await shopStats()).sign_ins - before.sign_ins;
  };
  expect(await signIns()).toBe(1);
  expect(await signIns()).toBe(0);
  const [user] = await credentials(project);
  const { cookies } = user?.secrets?.["storage_state"] as StorageState;
  const Cookie = cookies.map(({ name, value }) => `${name}=${value}`).join("; ");
  await fetch(`${shopUrl}/sign-out`, { method: "POST", headers: { Cookie }, redirect: "manual" });
  expect(await signIns()).toBe(1);
  expect(await signIns()).toBe(0);
});

test("a test whose lease is lost ends at once, and says why", async () => {
  const project = await Project.ofTheShop(1, { default_ttl: 6, lock_delay: 0 });
  const ran = await run(project, { files: ["lost", "late"] });
  expect(ran.exitCode).toBe(1);
  const { id } = leaseOf(ran.results.get("goes on clicking"));
  const result = ran.results.get("goes on clicking");
  expect(result?.status).toBe("failed"); // and neither timed out nor waited for the minute that it gives itself
  const said = result?.errors.map(({ message }) => message);
  expect(said?.join()).toContain(`lease ${id} is lost (410 lease-lapsed`);
  const late = ran.results.get("is through before it hears of it");
  expect(late?.status).toBe("failed");
  expect(late?.errors[0]?.message).toContain("is lost");
});

test("a test whose lease is lost before its browser is ready does not begin", async () => {
  const project = await Project.ofTheShop(1, { default_ttl: 6 });
  const ran = await run(project, { files: ["overtaken"] });
  const result = ran.results.get("never begins");
  expect(result?.status).toBe("failed");
  expect(result?.errors[0]?.message).toContain("is lost");
  expect(result?.stdout).toEqual([]);
});

test("a worker keeps its user from test to test, until one is marked as broken", async () => {
  const project = await Project.ofTheShop(2);
  const before = await shopStats();
  const ran = await run(project, { files: ["worker"] });
  expect(ran.exitCode, ran.text).toBe(0);
  const [one, two, three] = [1, 2, 3].map((number) => leaseOf(ran.results.get(`number ${number}`)).id);
  expect(two).toBe(one);
  expect(three).not.toBe(two);
  const broken = { outcome: "broken", reason: "captcha", note: "with traffic lights" };
  expect(await stateOf(one!)).toMatchObject({ ended_by: "released", users: [broken] });
  expect(await stateOf(three!)).toMatchObject({ ended_by: "released", users: [{ outcome: "ok" }] });
  expect((await shopStats()).sign_ins - before.sign_ins).toBe(2);
});

test("a test that fails gives its user back, and has its screenshot and trace", async () => {
  const project = await Project.ofTheShop(1);
  const ran = await run(project, { files: ["failing"] });
  expect(ran.exitCode).toBe(1);
  const result = first(ran.results);
  expect(result.attachments.map(({ name }) => name)).toEqual(expect.arrayContaining(["botfarm", "screenshot", "trace"]));
  expect(result.errors).toHaveLength(1);
  expect(await stateOf(leaseOf(result).id)).toMatchObject({ ended_by: "released", users: [{ outcome: "dirty" }] });
});

test("several users of a test have a context and a page each, and come all together", async () => {
  const project = await Project.ofTheShop(3);
  const [, , agent] = await project.users();
  await api("PATCH", `/users/${agent!.id}`, { labels: { role: "agent" } });
  const ran = await run(project, { files: ["several"] });
  expect(ran.exitCode, ran.text).toBe(0);
  const [alike, ...ofKinds] = await project.leases();
  const byLogin = (lease: LeaseAnswer) => new Map(lease.users.map(({ login, outcome, note }) => [login, { outcome, note }]));
  const described = ran.annotations.get("two users alike")?.map(({ description }) => description);
  const [giver, taker] = described!.map((text) => /: (.+),/.exec(text!)![1]!);
  expect(described).toEqual([`giver: ${giver}, lease ${alike!.id}`, `taker: ${taker}, lease ${alike!.id}`]);
  expect(byLogin(alike!).get(taker!)).toMatchObject({ outcome: "dirty", note: "a gift in the cart" });
  expect(byLogin(alike!).get(giver!)).toMatchObject({ outcome: "ok" });
  expect(ofKinds.map(({ labels, ended_by }) => ({ labels, ended_by }))).toEqual([
    { labels: { role: "agent" }, ended_by: "released" },
    { labels: {}, ended_by: "released" },
  ]);
  expect(ran.results.get("two users of different kinds")?.attachments.filter(({ name }) => name === "botfarm")).toHaveLength(2);
});

test("a test that loses one of its users ends at once, and gives the others back", async () => {
  const project = await Project.ofTheShop(2, { default_ttl: 6 });
  const ran = await run(project, { files: ["several_lost"] });
  const result = ran.results.get("goes on with both");
  expect(result?.status).toBe("failed");
  expect(result?.errors.map(({ message }) => message).join()).toContain("is lost (410 lease-lapsed");
  expect(await project.leases("active")).toEqual([]);
});

test("a worker gives its user back before it waits for several, and keeps none of those that it cannot have", async () => {
  const project = await Project.ofTheShop(2);
  await api("PATCH", `/users/${(await project.users())[0]!.id}`, { labels: { role: "agent" } });
  const ran = await run(project, { files: ["several_apart"] });
  const status = (title: string) => ran.results.get(title)?.status;
  expect([status("has the user of the worker"), status("has both users")], ran.text).toEqual(["passed", "passed"]);
  expect(ran.results.get("gives back what it has got")?.errors[0]?.message).toContain("exhausted");
  expect(ran.results.get("says no users")?.errors[0]?.message).toContain("bots: say which users, as botKinds: ");
  expect((await project.leases()).map(({ ended_by, users }) => [ended_by, users.length])).toEqual([
    ["released", 1],
    ["released", 2],
    ["released", 1],
  ]);
});

test("a test may have one particular user", async () => {
  const project = await Project.ofTheShop(3);
  const logins = (await project.users()).map(({ login }) => login).sort();
  const ran = await run(project, { files: ["particular"], env: { LOGIN: logins[2]! } });
  const status = (title: string) => ran.results.get(title)?.status;
  expect([status("has it"), status("has it beside others"), status("misspelt")], ran.text).toEqual(["passed", "passed", "failed"]);
  expect(ran.results.get("misspelt")?.errors[0]?.message).toContain("404 no-such-user");
  await project.client().withLease({ user: logins[2]! }, async () => {
    const second = await run(project, { files: ["particular"], env: { LOGIN: logins[2]! } });
    expect(second.results.get("has it")?.errors[0]?.message).toContain(`/stage/${logins[2]} exhausted after 0 s`);
  });
});

test("nothing goes on with a user that has been given back", async () => {
  const project = await Project.ofTheShop(1);
  const ran = await run(project, { files: ["afterwards"] });
  expect(ran.results.get("thoughtful")?.status).toBe("passed");
  expect(ran.results.get("careless")?.errors[0]?.message).toContain("browser has been closed");
});

test("nothing goes on with a user whose sign-in has failed, and signIn may say why", async () => {
  const project = await Project.ofTheShop(1);
  const ran = await run(project, { files: ["unsigned"] });
  const said = first(ran.results).errors.map(({ message }) => message);
  expect(said[0]).toContain("no sign-in today");
  expect(said[1]).toContain("browser has been closed");
  const broken = { outcome: "broken", reason: "credential_rejected" };
  expect(await stateOf(leaseOf(first(ran.results)).id)).toMatchObject({ users: [broken] });
});

test("a test without a user says what it waited for", async () => {
  const project = await Project.ofTheShop(1);
  await project.client().withLease({}, async () => {
    const ran = await run(project, { files: ["impatient"] });
    const line = `pool ${project.name}/stage exhausted after 2 s: `;
    expect(first(ran.results).errors[0]?.message).toContain(line);
  });
});

test("a sign-in that does not sign in is told from a test that fails", async () => {
  const project = await Project.ofTheShop(1);
  const ran = await run(project, { files: ["misled"] });
  const result = first(ran.results);
  expect(result.errors[0]?.message).toContain("signIn is through, and isSignedIn says no");
  expect(await stateOf(leaseOf(result).id)).toMatchObject({ ended_by: "released" });
  expect((await project.users())[0]?.has_secrets).toBe(false);
});

test("the CI job is kept with the lease", async () => {
  const project = await Project.ofTheShop(1);
  const env = { GITLAB_CI: "true", CI_JOB_URL: "https://git.test/acme/shop/-/jobs/99", CI_JOB_NAME: "e2e" };
  const ran = await run(project, { files: ["one"], env });
  expect(ran.exitCode, ran.text).toBe(0);
  const { metadata } = await stateOf(leaseOf(first(ran.results)).id);
  expect(metadata).toMatchObject({ ci: "gitlab", job_url: env.CI_JOB_URL, job: "e2e", test: "one.spec.ts:3" });
});

/** As their next holder sees them. */
async function credentials(project: Project) {
  const count = (await project.users()).length;
  return project.client().withLease({ count, wait: 60 }, async ({ users }) => [...users]);
}
