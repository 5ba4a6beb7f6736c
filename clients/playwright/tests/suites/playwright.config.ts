/** What the tests run as somebody's own suite: each file is one situation. */

import { defineConfig } from "@playwright/test";

import { shopSession } from "../../../../examples/shop/playwright/session";
import type { BotOptions } from "../../src/index";

export default defineConfig<BotOptions>({
  testDir: ".",
  use: {
    baseURL: process.env["SHOP_URL"] ?? "",
    botSession: shopSession,
    launchOptions: process.env["CHROMIUM"] ? { executablePath: process.env["CHROMIUM"] } : {},
  },
});
