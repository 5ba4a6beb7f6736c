import type { BotOptions } from "@botfarm/playwright";
import { defineConfig } from "@playwright/test";

import { shopSession } from "./session";

export default defineConfig<BotOptions>({
  testDir: "tests",
  fullyParallel: true,
  reporter: "list",
  use: {
    baseURL: process.env["SHOP_URL"] ?? "http://127.0.0.1:8080",
    botProject: process.env["BOTFARM_PROJECT"] ?? "webshop",
    botEnv: "stage",
    botSession: shopSession,
    launchOptions: {
      // A browser of the system, where Playwright's own is not installed.
      ...(process.env["CHROMIUM"] && { executablePath: process.env["CHROMIUM"] }),
      args: ["--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-component-update"],
    },
  },
});
