/** The tests of this package: they start a farm and a shop, and then other Playwright runs against these. */

import { defineConfig } from "@playwright/test";

export default defineConfig({
  testDir: "tests",
  testIgnore: "suites/**",
  globalSetup: "./tests/support/start.ts",
  fullyParallel: true,
  workers: 2,
  timeout: 120_000,
  expect: { timeout: 20_000 },
  reporter: "list",
});
