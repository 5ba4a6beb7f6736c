/** How each site of `support/site.ts` is signed in to. */

import type { Page } from "@playwright/test";

import type { BotSession } from "../../src/index";

export type Area = "rotating" | "database" | "tab";

export function siteSession(area: Area): BotSession {
  const visit = async (page: Page, what: string) => {
    await page.goto(`${process.env["SITE_URL"]}/${area}/${what}`);
    await page.locator("html[data-signed]").waitFor();
    return (await page.locator("html").getAttribute("data-signed")) === "in";
  };
  return {
    signIn: async (page) => void (await visit(page, "sign-in")),
    isSignedIn: (page) => visit(page, "account"),
  };
}
