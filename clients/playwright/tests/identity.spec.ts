/** A run of a CI without a secret: it shows what its CI has signed, and gets a token. The real exchange is tested with the farm. */

import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";

import { expect, test as base } from "@playwright/test";

import { Botfarm, IdentityRefusedError, SettingsError } from "../src/client";
import { settings } from "../src/settings";

interface Seen {
  target: string;
  authorization: string | undefined;
  body: string;
}

interface Ci {
  url: string;
  seen: Seen[];
  refuses: boolean;
  /** Tokens that the farm has forgotten. */
  forgotten: string[];
}

/** GitHub, which gives identity tokens, and a farm that takes them, behind one address. */
const test = base.extend<{ ci: Ci }>({
  ci: async ({}, use) => {
    const ci: Ci = { url: "", seen: [], refuses: false, forgotten: [] };
    const server = createServer((request, response) => {
      void read(request).then((body) => {
        ci.seen.push({ target: request.url ?? "", authorization: request.headers.authorization, body });
        const [status, document] = answer(ci, request);
        response.writeHead(status, { "Content-Type": status === 404 || status === 401 ? "application/problem+json" : "application/json" }).end(JSON.stringify(document));
      });
    });
    await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
    ci.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
    await use(ci);
    server.closeAllConnections();
    server.close();
  },
});

function answer(ci: Ci, { url: target = "", headers }: IncomingMessage): [number, object] {
  if (target.startsWith("/github")) return [200, { value: "signed" }];
  if (ci.forgotten.includes(headers.authorization ?? "")) return [401, { type: "urn:botfarm:problem:unauthenticated", status: 401, detail: "", title: "" }];
  if (target !== "/api/v1/auth/token") return [404, { type: "urn:botfarm:problem:no-such-pool", status: 404, detail: "", title: "" }];
  if (ci.refuses) return [400, { error: "invalid_grant", error_description: "refused" }];
  return [200, { access_token: ci.forgotten.length ? "bf_next" : "bf_run", expires_in: 3_600, token_type: "Bearer" }];
}

async function read(request: IncomingMessage): Promise<string> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text;
}

function farmOf(ci: Ci, environment: NodeJS.ProcessEnv): Botfarm {
  const given = settings({ url: ci.url, project: "shop", env: "stage" }, environment);
  return new Botfarm(given);
}

test("a job of GitHub gets a token for what GitHub has signed, once for all requests", async ({ ci }) => {
  const farm = farmOf(ci, {
    ACTIONS_ID_TOKEN_REQUEST_URL: `${ci.url}/github?api-version=2.0`,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: "of-this-job",
    BOTFARM_AUDIENCE: "https://farm.test",
  });
  await Promise.all([1, 2].map(() => expect(farm.acquire()).rejects.toThrow("no-such-pool")));
  const [asked, exchanged, ...others] = ci.seen;
  expect(asked).toMatchObject({
    target: "/github?api-version=2.0&audience=https%3A%2F%2Ffarm.test",
    authorization: "Bearer of-this-job",
  });
  expect(new URLSearchParams(exchanged?.body).get("subject_token")).toBe("signed");
  expect(others.map(({ authorization }) => authorization)).toEqual(["Bearer bf_run", "Bearer bf_run"]);
});

test("a job with an identity token in a variable exchanges that", async ({ ci }) => {
  await expect(farmOf(ci, { BOTFARM_ID_TOKEN: "of-gitlab" }).acquire()).rejects.toThrow("no-such-pool");
  expect(ci.seen[0]?.body).toContain("subject_token=of-gitlab");
});

test("a token that the farm has forgotten is exchanged anew, once", async ({ ci }) => {
  const farm = farmOf(ci, { BOTFARM_ID_TOKEN: "of-gitlab" });
  await expect(farm.acquire()).rejects.toThrow("no-such-pool");
  ci.forgotten = ["Bearer bf_run"];
  await expect(farm.acquire()).rejects.toThrow("no-such-pool");
  expect(ci.seen.map(({ authorization }) => authorization)).toEqual([
    undefined, "Bearer bf_run", "Bearer bf_run", undefined, "Bearer bf_next",
  ]);
  ci.forgotten.push("Bearer bf_next");
  await expect(farm.acquire()).rejects.toThrow("unauthenticated");
});

test("a refusal says what to look at, and nothing of the token", async ({ ci }) => {
  ci.refuses = true;
  const refused = farmOf(ci, { BOTFARM_ID_TOKEN: "of-gitlab" }).acquire();
  await expect(refused).rejects.toThrow(IdentityRefusedError);
  await expect(refused).rejects.toThrow(/trust rule/);
  await expect(refused).rejects.not.toThrow(/of-gitlab/);
});

test("a token comes before any identity", () => {
  const given = settings({}, { BOTFARM_TOKEN: "a-token", BOTFARM_ID_TOKEN: "of-gitlab" });
  expect(given).toMatchObject({ token: "a-token", identity: undefined });
});

for (const [name, hint] of [
  ["GITHUB_ACTIONS", "permissions: id-token: write"],
  ["GITLAB_CI", "id_tokens: BOTFARM_ID_TOKEN"],
  ["OTHER", "set BOTFARM_TOKEN"],
] as const) {
  test(`a job without any identity is told what is missing: ${name}`, () => {
    expect(() => settings({}, { [name]: "true" })).toThrow(SettingsError);
    expect(() => settings({}, { [name]: "true" })).toThrow(hint);
  });
}
