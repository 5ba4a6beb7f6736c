export { expect } from "@playwright/test";
export type { Bot, StorageState } from "./bot";
export * from "./client";
export { type BotFixtures, type BotOptions, test } from "./fixtures";
export type { BotSession } from "./session";
