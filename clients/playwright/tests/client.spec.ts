/** The client against a real farm, with the network between them at times a bad one. */

import { createHmac } from "node:crypto";
import { inspect } from "node:util";

import { expect, test as base } from "@playwright/test";

import { Bot } from "../src/bot";
import { Botfarm, LeaseLostError, PoolExhaustedError, SettingsError, UnreachableError } from "../src/client";
import { api, lease as leaseOf, PASSWORD, Project, token, url } from "./support/farm";
import { clientProgram } from "./support/programs";
import { type Fate, Proxy } from "./support/proxy";

const test = base.extend<{ network: Proxy }>({
  network: async ({}, use) => {
    const proxy = await Proxy.open();
    await use(proxy);
    proxy.close();
  },
});

/** What `promise` was rejected with. */
async function failure(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => Promise.reject(new Error("it did not fail")),
    (error: Error) => error,
  );
}

test("a lease has credentials, and its release gives the user back at once", async () => {
  const project = await Project.withUsers(1);
  const lease = await project.client().acquire();
  expect(lease.user).toMatchObject({ login: "user-1@shop.test", password: PASSWORD });
  expect((await project.leases("active")).map(({ id }) => id)).toEqual([lease.id]);
  await lease.release({ outcome: "dirty", note: "the cart is full" });
  await lease.release();
  expect(await leaseOf(lease.id)).toMatchObject({ ended_by: "released", outcome: "dirty" });
  expect((await project.users())[0]).toMatchObject({ state: "free" });
});

test("a lease lives on for as long as it is not released", async () => {
  const project = await Project.withUsers(1, { default_ttl: 2 });
  await project.client().withLease({}, async (lease) => {
    const first = Date.parse((await leaseOf(lease.id)).expires_at);
    // Twice its TTL later it would be over.
    await expect.poll(async () => Date.parse((await leaseOf(lease.id)).expires_at)).toBeGreaterThan(first + 4_000);
    expect(lease.lost.aborted).toBe(false);
  });
  expect(await project.leases("active")).toEqual([]);
});

test("who waits longer than one request may asks again under the same key", async ({ network }) => {
  const project = await Project.withUsers(1);
  const held = await project.client().acquire();
  const waiting = project.client(network.url).acquire({ wait: 60 });
  await expect.poll(() => network.seen.length).toBeGreaterThan(2);
  await held.release();
  const lease = await waiting;
  expect(lease.user.login).toBe("user-1@shop.test");
  expect(new Set(network.seen.filter(({ path }) => path === "/leases").map(({ key }) => key)).size).toBe(1);
  await lease.release();
});

test("who has waited for longer than the lease lasts has a whole one", async ({ network }) => {
  const project = await Project.withUsers(1, { default_ttl: 2, cooldown: 1 });
  await (await project.client().acquire()).release(); // it rests for a second, which is more than a third of the TTL
  const lease = await project.client(network.url).acquire({ wait: 60 });
  expect(network.seen.at(-1)?.path).toBe(`/leases/${lease.id}/renew`);
  expect(lease.lost.aborted).toBe(false);
  await lease.release();
});

test("a lost answer takes no second user", async ({ network }) => {
  const project = await Project.withUsers(2);
  network.decide((_, before) => (before === 0 ? "lose-answer" : before === 1 ? "busy" : "pass"));
  const lease = await project.client(network.url).acquire();
  expect(network.seen.map(({ fate }) => fate)).toEqual(["lose-answer", "busy", "pass"]);
  expect((await project.leases()).map(({ id }) => id)).toEqual([lease.id]);
  network.decide((_, before) => (before === 0 ? "lose-answer" : "pass"));
  await lease.release();
  expect(await leaseOf(lease.id)).toMatchObject({ ended_by: "released" });
});

test("a program that has nothing else to do goes on asking for a lease, and giving it back", async ({ network }) => {
  const project = await Project.withUsers(1);
  const fates: Fate[] = ["cut", "busy"];
  network.decide((_, before) => fates[before] ?? "pass");
  const program = clientProgram(
    `farm.withLease({}, async () => console.log("works")).then(() => console.log("released"))`,
    { BOTFARM_URL: network.url, BOTFARM_PROJECT: project.name },
  );
  try {
    expect(await program.ended(), program.output).toBe(0);
    expect(program.output).toBe("works\nreleased\n");
  } finally {
    await program.end();
  }
  expect((await project.leases()).map(({ ended_by }) => ended_by)).toEqual(["released"]);
});

test("a lease that is held keeps no program running", async () => {
  const project = await Project.withUsers(1, { default_ttl: 60 });
  const program = clientProgram(`farm.acquire().then(() => console.log("has one"))`, { BOTFARM_PROJECT: project.name });
  try {
    expect(await program.ended(), program.output).toBe(0);
    expect(program.output).toBe("has one\n");
  } finally {
    await program.end();
  }
});

test("a pool that stays exhausted says so in one line", async () => {
  const project = await Project.withUsers(1);
  await project.client().withLease({}, async () => {
    const error = await failure(project.client().acquire({ wait: 3 }));
    expect(error).toBeInstanceOf(PoolExhaustedError);
    const line = new RegExp(`^pool ${project.name}/stage exhausted after 3 s: \\d waiting, next free in \\d+ s$`);
    expect(error.message).toMatch(line);
  });
});

test("a quota is waited out", async ({ network }) => {
  const project = await Project.withUsers(2);
  const body = { name: `t-${project.name}`, role: "runner", projects: [project.id], envs: ["stage"], max_leases: 1 };
  const { token: mine } = await api<{ token: string }>("POST", "/tokens", body);
  const held = await project.client(url, mine).acquire();
  expect(await failure(project.client(url, mine).acquire())).toMatchObject({ slug: "quota-exceeded" });
  const waiting = project.client(network.url, mine).acquire({ wait: 60 });
  await expect.poll(() => network.seen.length).toBeGreaterThan(1);
  await held.release();
  await (await waiting).release();
});

test("a network away for shorter than the lease does no harm", async ({ network }) => {
  const project = await Project.withUsers(1, { default_ttl: 6 });
  const lease = await project.client(network.url).acquire();
  const path = `/leases/${lease.id}/renew`;
  const renewals = (fate: string) => network.seen.filter((one) => one.path === path && one.fate === fate).length;
  network.decide(() => "cut");
  await expect.poll(() => renewals("cut")).toBeGreaterThan(1);
  network.decide(() => "pass");
  await expect.poll(() => renewals("pass")).toBeGreaterThan(1);
  expect(lease.lost.aborted).toBe(false);
  await lease.release();
});

for (const fate of [401, 404, 429, 500] as const) {
  test(`a proxy's ${fate} to a renewal is no loss`, async ({ network }) => {
    const project = await Project.withUsers(1, { default_ttl: 10 });
    network.decide((path, before) => (path.endsWith("/renew") && before < 2 ? fate : "pass"));
    const lease = await project.client(network.url).acquire();
    const renewals = () => network.seen.filter(({ path }) => path.endsWith("/renew")).map(({ fate }) => fate);
    await expect.poll(() => renewals().slice(0, 3)).toEqual([fate, fate, "pass"]);
    expect(lease.lost.aborted).toBe(false);
    await lease.release();
  });
}

test("a release is asked for again when there are too many requests", async ({ network }) => {
  const project = await Project.withUsers(1);
  network.decide((path, before) => (path.endsWith("/release") && before === 0 ? 429 : "pass"));
  const lease = await project.client(network.url).acquire();
  await lease.release();
  expect(await leaseOf(lease.id)).toMatchObject({ ended_by: "released" });
});

test("too many requests are waited out for as long as the caller wants", async ({ network }) => {
  const project = await Project.withUsers(1);
  network.decide((_, before) => (before === 1 ? "pass" : 429));
  expect(await failure(project.client(network.url).acquire())).toMatchObject({ status: 429 });
  expect(network.seen).toHaveLength(1);
  const lease = await project.client(network.url).acquire({ wait: 60 });
  expect(network.seen.filter(({ path }) => path === "/leases").map(({ fate }) => fate)).toEqual([429, "pass"]);
  network.decide(() => "pass");
  await lease.release();
});

for (const fate of ["cut", "silent"] as const) {
  test(`a network that is ${fate} for longer is told before anybody else can get the user`, async ({ network }) => {
    const project = await Project.withUsers(1, { default_ttl: 3, lock_delay: 0 });
    const lease = await project.client(network.url).acquire();
    network.decide(() => fate);
    const lostAt = new Promise<number>((resolve) => {
      lease.lost.addEventListener("abort", () => resolve(Date.now()));
    });
    const other = await project.client().acquire({ wait: 60 });
    expect(await lostAt).toBeLessThan(Date.parse((await leaseOf(other.id)).acquired_at));
    expect(lease.lost.reason).toBeInstanceOf(LeaseLostError);
    network.decide(() => "pass");
    await lease.release();
    expect(await leaseOf(other.id)).toMatchObject({ ended_at: null });
    await other.release();
  });
}

test("a lease that the farm has ended is lost at the next renewal, whatever the work says", async () => {
  const project = await Project.withUsers(1, { default_ttl: 4 });
  const work = project.client().withLease({}, async (lease) => {
    await api("POST", `/leases/${lease.id}/force_release`, { reason: "wanted elsewhere" });
    await new Promise((resolve) => lease.lost.addEventListener("abort", resolve));
    return "all is well";
  });
  const error = await failure(work);
  expect(error).toBeInstanceOf(LeaseLostError);
  expect(error.message).toContain("lease-lapsed");
});

for (const ask of ["writeBack", "totp"] as const) {
  test(`a lease is lost when ${ask} hears that the farm has ended it`, async () => {
    const project = await Project.withUsers(1, { default_ttl: 60 });
    const lease = await project.client().acquire();
    await api("POST", `/leases/${lease.id}/force_release`, { reason: "wanted elsewhere" });
    const [{ id }, rings] = [lease.user, new Promise((resolve) => lease.lost.addEventListener("abort", resolve))];
    const error = await failure(ask === "totp" ? lease.totp(id) : lease.writeBack(id, { password: "another one" }));
    expect(error).toBeInstanceOf(LeaseLostError);
    expect(error.message).toContain("lease-lapsed");
    await rings;
    expect(lease.lost.reason).toBe(error);
    expect(await failure(lease.totp(id))).toBe(error);
  });
}

test("a lease that was held as long as it may be says so", async () => {
  const project = await Project.withUsers(1, { default_ttl: 2, max_hold: 4 });
  const lease = await project.client().acquire();
  await expect.poll(() => lease.lost.aborted).toBe(true);
  expect((lease.lost.reason as Error).message).toContain("held as long as the project's max_hold allows");
  await lease.release();
});

test("a release that comes too late is no success", async () => {
  const project = await Project.withUsers(1);
  const work = project.client().withLease({}, async (lease) => {
    await api("POST", `/leases/${lease.id}/force_release`, { reason: "wanted elsewhere" });
  });
  expect(await failure(work)).toBeInstanceOf(LeaseLostError);
});

test("of several users only the marked one is said to be broken", async () => {
  const project = await Project.withUsers(4);
  const lease = await project.client().acquire({ count: 4 });
  const [one, two, three, four] = lease.users;
  lease.mark(one!.id, "dirty");
  lease.mark(one!.id, "broken", { reason: "captcha", note: `with traffic lights\0${"!".repeat(2_000)}` });
  lease.mark(two!.id, "ok");
  lease.mark(three!.id, "broken", { reason: "mfa" });
  await lease.release({ outcome: "dirty", users: [{ id: three!.id, outcome: "dirty", reason: "data" }] });
  const said = new Map((await leaseOf(lease.id)).users.map((user) => [user.id, user]));
  expect(said.get(one!.id)).toMatchObject({ outcome: "broken", reason: "captcha" });
  expect(said.get(one!.id)?.note).toMatch(/^with traffic lights !{980}$/);
  expect(said.get(two!.id)).toMatchObject({ outcome: "ok" });
  expect(said.get(three!.id)).toMatchObject({ outcome: "dirty", reason: "data" });
  expect(said.get(four!.id)).toMatchObject({ outcome: "dirty" });
  expect(() => lease.mark(one!.id, "ok")).toThrow(`lease ${lease.id} is released: mark its users before`);
});

test("a wrong mark is told at once, and says nothing at the release", async () => {
  const project = await Project.withUsers(1);
  await project.client().withLease({}, async (lease) => {
    const mark = (...said: unknown[]) => () => new Bot(lease).mark(...(said as Parameters<Bot["mark"]>));
    expect(mark("brokn")).toThrow(new RangeError('outcome "brokn": give ok, dirty or broken'));
    expect(mark("toString")).toThrow(RangeError);
    const reasons = /^reason "captha": give credential_rejected, .*, environment or other$/;
    expect(mark("broken", { reason: "captha" })).toThrow(reasons);
    expect(mark("ok", { reason: "captcha" })).toThrow("reason: it goes with the outcomes dirty and broken");
    expect(mark("broken", { note: 7 })).toThrow("note: give a text");
    expect(mark("broken", { cause: "captcha" })).toThrow("cause: a mark has a reason and a note");
    expect(mark("broken", "wants a captcha")).toThrow("after the outcome give an object");
    expect(() => lease.mark(lease.id, "broken")).toThrow(`lease ${lease.id} has no user ${lease.id}`);
  });
  expect((await project.leases())[0]).toMatchObject({ ended_by: "released", users: [{ outcome: "ok" }] });
});

test("work that fails gives its users back", async () => {
  const project = await Project.withUsers(2);
  const work = project.client().withLease({ count: 2 }, async (lease) => {
    expect(lease.users).toHaveLength(2);
    expect(() => lease.user).toThrow(RangeError);
    throw new Error("as tests do");
  });
  expect((await failure(work)).message).toBe("as tests do");
  expect((await project.leases()).map(({ ended_by }) => ended_by)).toEqual(["released"]);
});

const CODE_EVERY_SECOND = "otpauth://totp/shop?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&period=1";

test("what a test changes is there for the next holder", async () => {
  const project = await Project.create();
  await project.addUser("ann@shop.test", PASSWORD, { secrets: { pin: "1234" } });
  await project.client().withLease({}, async (lease) => {
    await lease.writeBack(lease.user.id, { password: "another one", secrets: { pin: null, state: { cookies: [1] } } });
    expect(lease.user).toMatchObject({ password: "another one", secrets: { state: { cookies: [1] } } });
  });
  await project.client().withLease({}, async (lease) => {
    expect(lease.user.secrets).toEqual({ state: { cookies: [1] } });
  });
});

test("no one-time code is given twice", async () => {
  const project = await Project.create();
  await project.addUser("ann@shop.test", PASSWORD, { totp_seed: CODE_EVERY_SECOND });
  await project.client().withLease({}, async (lease) => {
    const first = Math.floor(Date.now() / 1_000) - 5;
    const codes = [lease.user.totp!.code, await new Bot(lease).totp(), (await lease.totp(lease.user.id)).code];
    const last = Math.floor(Date.now() / 1_000) + 5;
    const expected = Array.from({ length: last - first }, (_, step) => totp("12345678901234567890", first + step));
    expect(expected).toEqual(expect.arrayContaining(codes));
    expect(new Set(codes).size).toBe(3);
    const error = await failure(lease.totp(lease.user.id, { goodFor: 21 }));
    expect(error.message).toContain("good_for");
  });
});

/** RFC 6238. */
function totp(seed: string, step: number): string {
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(step));
  const hash = createHmac("sha1", seed).update(counter).digest();
  const number = hash.readUInt32BE((hash.at(-1) ?? 0) & 15) & 0x7fffffff;
  return String(number % 1_000_000).padStart(6, "0");
}

test("nothing that is shown of a lease has a password in it", async () => {
  const project = await Project.withUsers(1);
  const client = project.client();
  await client.withLease({}, async (lease) => {
    const shown = [inspect(lease, { depth: 9, showHidden: true }), JSON.stringify(lease), inspect(client, { depth: 9 })];
    expect(shown.join()).toContain("user-1@shop.test");
    expect(shown.join()).not.toContain(PASSWORD);
    expect(shown.join()).not.toContain(token);
  });
});

test("nothing that is shown of a user is a credential", async () => {
  const project = await Project.create();
  const pin = "4711-0815";
  await project.addUser("ann@shop.test", PASSWORD, { secrets: { pin }, totp_seed: CODE_EVERY_SECOND });
  await project.client().withLease({}, async (lease) => {
    const check = (password: string) => {
      const { user, users } = lease;
      expect(user).toMatchObject({ password, secrets: { pin }, totp: { code: expect.stringMatching(/^\d{6}$/) } });
      const all = { depth: 9, showHidden: true, customInspect: false };
      for (const value of [user, users, new Bot(lease).user, { ...user }]) {
        for (const shown of [inspect(value), inspect(value, all), JSON.stringify(value)]) {
          expect(shown).toContain("ann@shop.test");
          for (const secret of [password, pin, user.totp!.code]) expect(shown).not.toContain(secret);
        }
      }
    };
    check(PASSWORD);
    await lease.writeBack(lease.user.id, { password: "another password" });
    check("another password");
  });
});

test("an address with a secret in it is refused, and not repeated", () => {
  for (const where of ["bob:hidden@farm.test", "hidden@farm.test", "farm.test/?key=hidden", "farm.test/#hidden"]) {
    const refusal = /^(?!.*hidden)BOTFARM_URL: .*no user, password, query or fragment/;
    expect(() => new Botfarm({ url: `https://${where}`, token })).toThrow(refusal);
  }
  expect(() => new Botfarm({ url: "https://", token })).toThrow(/^BOTFARM_URL: /);
});

test("what is missing or wrong is said in words", async ({ network }) => {
  const project = await Project.withUsers(1);
  expect(await failure(project.client().acquire({ domain: "canary" }))).toMatchObject({ slug: "no-such-pool" });
  expect(await failure(project.client(url, "nobody's-token").acquire())).toMatchObject({ slug: "unauthenticated" });
  expect(() => new Botfarm({ url })).toThrow(new SettingsError("no token: set BOTFARM_TOKEN, or BOTFARM_TOKEN_FILE to a file that holds the token"));
  expect(() => new Botfarm({ url, token: "two\nlines" })).toThrow(/^BOTFARM_TOKEN: (?!.*lines)/);
  expect(() => new Botfarm({ url: "farm.test", token })).toThrow(/^BOTFARM_URL: /);
  expect(await failure(new Botfarm({ url, token }).acquire())).toMatchObject({ message: expect.stringContaining("BOTFARM_PROJECT") });
  const nowhere = network.url;
  network.close();
  const error = await failure(project.client(nowhere).acquire({ wait: 60 }));
  expect(error).toBeInstanceOf(UnreachableError);
  expect(error.message).toBe(`no answer from ${nowhere}/api/v1: ECONNREFUSED`);
});
