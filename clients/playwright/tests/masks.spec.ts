import { expect, test } from "@playwright/test";

import { maskLines } from "../src/masks";
import type { LeasedUser } from "../src/types";

function masked(user: Partial<LeasedUser>): string[] {
  return maskLines({ login: "ann@shop.test", labels: {}, ...user } as LeasedUser);
}

test("a password is masked as it is, and as JSON, URLs and HTTP write it", () => {
  expect(masked({ password: 'pa ss"50%' })).toEqual([
    `::add-mask::${Buffer.from('ann@shop.test:pa ss"50%').toString("base64").replace(/=+$/, "")}`,
    "::add-mask::pa%2520ss%252250%2525",
    "::add-mask::cGEgc3MiNTAl",
    '::add-mask::pa ss\\"50%25',
    '::add-mask::pa ss"50%25',
  ]);
});

test("of a session the long values are masked; names, short values and the login are not", () => {
  const cookies = [{ name: "a-long-name-of-a-cookie", value: "0123456789abcdef", domain: "a-long-domain.shop.test" }];
  const localStorage = [{ name: "theme", value: "dark" }, { name: "user", value: "ann@shop.test" }];
  const storage_state = { cookies, origins: [{ origin: "https://shop.test", localStorage }] };
  const lines = masked({ secrets: { storage_state, signed_in: true } });
  expect(lines).toEqual(["::add-mask::0123456789abcdef"]);
});

test("of a database the long values are masked; names of databases, stores and indexes are not", () => {
  const records = [{ key: "me", value: { token: "0123456789abcdef" } }];
  const indexes = [{ name: "a-long-name-of-an-index", keyPath: "a-long-path-of-keys" }];
  const stores = [{ name: "a-long-name-of-a-store", records, indexes }];
  const origins = [{ origin: "https://shop.test", indexedDB: [{ name: "a-long-name-of-a-database", version: 1, stores }] }];
  expect(masked({ secrets: { storage_state: { origins } } })).toEqual(["::add-mask::0123456789abcdef"]);
});

test("a value of any length is masked, in pieces", () => {
  const lines = masked({ secrets: { token: "x".repeat(2_020) } });
  expect(lines.map((line) => line.length - "::add-mask::".length)).toEqual([1_000, 20]);
});

test("a password that is the login, or none, masks nothing", () => {
  expect(masked({ password: "ann@shop.test" })).toEqual([]);
  expect(masked({})).toEqual([]);
});
