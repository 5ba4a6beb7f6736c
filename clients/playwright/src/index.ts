export { expect } from "@playwright/test";
export type { Bot, BotWithPage, StorageState } from "./bot";
export * from "./client";
export { type BotFixtures, type BotOptions, test } from "./fixtures";
export type { BotKind } from "./kinds";
export type { BotSession } from "./session";
