/** The way to the farm: proxies of the environment, redirects, and what a suite does to the global fetch. */

import { once } from "node:events";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { writeFile } from "node:fs/promises";

import { expect, test as base } from "@playwright/test";
import { getGlobalDispatcher, MockAgent, setGlobalDispatcher } from "undici";

import { Botfarm, ProblemError, SettingsError, UnreachableError } from "../src/client";
import { networkTo } from "../src/network";
import { settings } from "../src/settings";
import { Project, token, url } from "./support/farm";

/** A server whose requests are seen and go on to where they want to. */
async function forwarding(seen: string[]): Promise<Server> {
  const server = createServer((incoming, outgoing) => {
    seen.push(`${incoming.method} ${incoming.url} ${incoming.headers["proxy-authorization"] ?? ""}`);
    const { method, headers } = incoming;
    const onward = request(incoming.url ?? "", { method, headers }, (answer) => {
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    });
    incoming.pipe(onward);
  });
  return listening(server);
}

async function listening(server: Server): Promise<Server> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}

const test = base.extend<{ variables: (given: Record<string, string>) => void }>({
  variables: async ({}, use) => {
    const before = { ...process.env };
    await use((given) => void Object.assign(process.env, given));
    process.env = before;
  },
});

test("HTTP_PROXY is asked for the farm, and NO_PROXY keeps it out", async ({ variables }) => {
  const project = await Project.withUsers(1);
  const seen: string[] = [];
  const proxy = await forwarding(seen);
  variables({ HTTP_PROXY: `http://ann:pass%2Fword@127.0.0.1:${portOf(proxy)}` });
  await project.client().withLease({}, async (lease) => expect(lease.users).toHaveLength(1));
  const basic = `Basic ${Buffer.from("ann:pass/word").toString("base64")}`;
  expect(seen[0]).toBe(`POST ${url}/api/v1/leases ${basic}`);
  const before = seen.length;
  variables({ NO_PROXY: "other.test, 127.0.0.0/8" });
  await project.client().withLease({}, async (lease) => expect(lease.users).toHaveLength(1));
  expect(seen).toHaveLength(before);
  proxy.close();
});

test("a farm that is not reached says which proxy was asked, without its password", async ({ variables }) => {
  const proxy = await listening(createServer());
  const port = portOf(proxy);
  proxy.close();
  await once(proxy, "close");
  variables({ http_proxy: `http://ann:hunter2@127.0.0.1:${port}` });
  const client = new Botfarm({ url: "http://farm.test", token, project: "shop", env: "stage" });
  const error = await client.acquire().catch((failure: Error) => failure);
  expect(error).toBeInstanceOf(UnreachableError);
  expect((error as Error).message).toContain(`by way of the proxy http://127.0.0.1:${port}: ECONNREFUSED`);
  expect((error as Error).message).not.toContain("hunter2");
});

for (const [noProxy, farm, isAsked] of [
  ["", "http://farm.test", true],
  ["*", "http://farm.test", false],
  ["farm.test", "http://farm.test", false],
  ["farm.test", "http://eu.farm.test", true],
  [".farm.test", "http://eu.farm.test", false],
  ["*.farm.test", "http://eu.farm.test", false],
  [".farm.test", "http://farm.test", true],
  ["farm.test:8080", "http://farm.test", true],
  ["farm.test:80", "http://farm.test", false],
  ["FARM.test", "http://farm.TEST", false],
  ["10.0.0.0/8", "http://10.1.2.3:8000", false],
  ["10.0.0.0/8", "http://11.1.2.3:8000", true],
  ["10.0.0.1-10.0.0.9", "http://10.0.0.5", false],
  ["10.0.0.1-10.0.0.9", "http://10.0.0.10", true],
  ["fd00::/8", "http://[fd12::1]:8000", false],
  ["fd00::/8", "http://[fe80::1]:8000", true],
  ["[fd12::1]:8000", "http://[fd12::1]:8000", false],
  ["::1", "http://[::1]:8000", false],
  ["fd00::/8,nonsense/99,:,-", "http://10.0.0.1", true],
] as const) {
  test(`NO_PROXY=${noProxy} and ${farm}`, () => {
    const { proxy } = networkTo(farm, { HTTP_PROXY: "http://proxy.test:3128", NO_PROXY: noProxy });
    expect(proxy).toBe(isAsked ? "http://proxy.test:3128" : undefined);
  });
}

for (const wrong of ["socks5://u:hunter2@proxy:1080", "http://u:hunter2/x@proxy:3128", "http://", "http://proxy:99999", "http://u:12/hunter2@proxy", "http://u:hunter2%@proxy:3128"]) {
  test(`a proxy that cannot be asked is refused by its variable: ${wrong}`, () => {
    const refused = () => networkTo("https://farm.test", { HTTPS_PROXY: wrong });
    expect(refused).toThrow(SettingsError);
    expect(refused).toThrow(/^HTTPS_PROXY: (?!.*hunter2)/);
    // Where it is not for this farm it does not matter.
    expect(networkTo("http://farm.test", { HTTPS_PROXY: wrong }).proxy).toBeUndefined();
    expect(networkTo("https://farm.test", { HTTPS_PROXY: wrong, NO_PROXY: ".test,farm.test" }).proxy).toBeUndefined();
  });
}

test("a redirect is not followed: what is written back is for the farm that was named", async () => {
  const seen: string[] = [];
  const other = await forwarding(seen);
  const redirecting = await listening(
    createServer((_, answer) => answer.writeHead(307, { location: `http://127.0.0.1:${portOf(other)}/` }).end()),
  );
  const client = new Botfarm({ url: `http://127.0.0.1:${portOf(redirecting)}`, token, project: "shop", env: "stage" });
  const error = await client.acquire().catch((failure: Error) => failure);
  expect(error).toBeInstanceOf(ProblemError);
  expect((error as ProblemError).status).toBe(307);
  expect(seen).toEqual([]);
  other.close();
  redirecting.close();
});

test("mocks of fetch and of undici see nothing of the farm", async () => {
  const project = await Project.withUsers(1);
  const [fetchBefore, dispatcherBefore] = [globalThis.fetch, getGlobalDispatcher()];
  const mocked = new MockAgent();
  mocked.disableNetConnect();
  try {
    setGlobalDispatcher(mocked);
    globalThis.fetch = () => Promise.reject(new Error("mocked"));
    await project.client().withLease({}, async (lease) => expect(lease.users).toHaveLength(1));
  } finally {
    globalThis.fetch = fetchBefore;
    setGlobalDispatcher(dispatcherBefore);
  }
});

for (const around of [" {}", "{}\r\n", "\ufeff{}", "\t\ufeff{} \n"]) {
  test(`blanks, line ends and byte order marks are no part of a setting: ${JSON.stringify(around)}`, async ({}, testInfo) => {
    const wrapped = (text: string) => around.replace("{}", text);
    const file = testInfo.outputPath("token");
    const given = { BOTFARM_URL: wrapped("http://farm.test"), BOTFARM_PROJECT: wrapped("shop"), BOTFARM_ENV: wrapped("stage") };
    const expected = { url: "http://farm.test", token: "a-token", project: "shop", env: "stage" };
    expect(settings({}, { ...given, BOTFARM_TOKEN: wrapped("a-token") })).toEqual(expected);
    for (const encoding of ["utf8", "utf16le"] as const) {
      await writeFile(file, encoding === "utf8" ? wrapped("a-token") : `\ufeff${wrapped("a-token")}`, encoding);
      expect(settings({}, { ...given, BOTFARM_TOKEN_FILE: `${file}\n` })).toEqual(expected);
    }
  });
}
