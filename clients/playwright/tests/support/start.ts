/** A farm and a shop with a customer file of its own, for all tests; ended after the last one. */

import { chmod, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

import { cleanEnvironment, Process } from "./processes";

const CHECKOUT = resolve(__dirname, "../../../..");
const BIN = join(CHECKOUT, ".venv/bin");
/** Seconds. Shorter than any wait of the tests, so that all of them ask more than once. */
const MAX_WAIT = "2";

export default async function start(): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), "botfarm-playwright-"));
  await chmod(folder, 0o711); // as root the database is another account's
  const accounts = join(folder, "accounts.jsonl");
  const farm = new Process(join(BIN, "botfarm"), ["dev"], {
    cwd: folder,
    env: cleanEnvironment({
      BOTFARM_DATA_DIR: join(folder, "farm"),
      BOTFARM_PORT: "0",
      BOTFARM_MAX_WAIT: MAX_WAIT,
    }),
  });
  const shop = new Process(join(BIN, "python"), ["-m", "shop", "--accounts", accounts, "--make", "8", "--port", "0"], {
    cwd: join(CHECKOUT, "examples/shop"),
    env: cleanEnvironment({}),
  });
  const stop = async () => {
    await Promise.all([farm.end(), shop.end()]);
    await rm(folder, { recursive: true });
  };
  try {
    process.env["TEST_FARM_URL"] = await farm.says(/botfarm is running: (\S+)/);
    process.env["TEST_FARM_TOKEN"] = await farm.says(/token +(\S+)/);
    process.env["TEST_SHOP_URL"] = await shop.says(/open: (\S+)/);
    process.env["TEST_ACCOUNTS"] = accounts;
  } catch (error) {
    await stop();
    throw error;
  }
  return stop;
}
