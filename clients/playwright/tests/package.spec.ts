/** What is published, and how it is loaded where it is installed. */

import { execFileSync } from "node:child_process";
import { resolve } from "node:path";

import { expect, test } from "@playwright/test";

import { OF_THE_SHOP } from "./support/suite";

test("the package has what it needs, and nothing else", () => {
  const packed = execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: resolve(__dirname, ".."),
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  });
  const [first] = Object.values(JSON.parse(packed)) as { files: { path: string }[] }[];
  const files = first!.files.map(({ path }) => path);
  expect(files).toEqual(expect.arrayContaining(["LICENSE", "README.md", "package.json", "dist/index.js", "dist/index.d.ts"]));
  expect(files.filter((path) => !/^(LICENSE|README\.md|package\.json|dist\/\w+\.(js|d\.ts))$/.test(path))).toEqual([]);
});

for (const [how, type, code] of [
  ["required", "commonjs", 'const { test } = require("@botfarm/playwright"); const { Botfarm } = require("@botfarm/playwright/client")'],
  ["imported", "module", 'import { test } from "@botfarm/playwright"; import { Botfarm } from "@botfarm/playwright/client"'],
]) {
  test(`it can be ${how}`, () => {
    const script = `${code}; console.log(typeof test.extend, Botfarm.name)`;
    const options = { cwd: OF_THE_SHOP, encoding: "utf8" } as const;
    expect(execFileSync(process.execPath, [`--input-type=${type}`, "-e", script], options)).toBe("function Botfarm\n");
  });
}

test("the client alone loads no Playwright", () => {
  const script = 'require("@botfarm/playwright/client"); console.log(Object.keys(require.cache).join())';
  const loaded = execFileSync(process.execPath, ["-e", script], { cwd: OF_THE_SHOP, encoding: "utf8" });
  expect(loaded).toContain("client.js");
  expect(loaded).not.toContain("playwright-core");
});
