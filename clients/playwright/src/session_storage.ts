/** What a page has in its session storage, which no other page gets. */

import type { Page } from "@playwright/test";

export interface SessionStorage {
  origin: string;
  entries: [string, string][];
}

/** Undefined when there is nothing in it, or no page left that has one. */
export async function sessionStorageOf(page: Page): Promise<SessionStorage | undefined> {
  try {
    const found = await page.evaluate(() => ({ origin: location.origin, entries: Object.entries(sessionStorage) }));
    return found.entries.length > 0 ? found : undefined;
  } catch {
    return undefined;
  }
}

/** Runs in pages. */
export function fillSessionStorage({ origin, entries }: SessionStorage): void {
  if (location.origin === origin) for (const [name, value] of entries) sessionStorage.setItem(name, value);
}
