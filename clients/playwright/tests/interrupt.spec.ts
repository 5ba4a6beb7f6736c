import { rm } from "node:fs/promises";

import { expect, test } from "@playwright/test";

import { lease as stateOf, Project } from "./support/farm";
import { leaseOf, run, started } from "./support/suite";

test("a test that hangs gives its user back when its time is over", async () => {
  const project = await Project.withUsers(1);
  const ran = await run(project, { files: ["hanging"], env: { SHORT: "1" } });
  const result = ran.results.get("hangs");
  expect(result?.status).toBe("timedOut");
  expect(await stateOf(leaseOf(result).id)).toMatchObject({ ended_by: "released" });
});

test("Ctrl-C gives the user back", async () => {
  const project = await Project.withUsers(1);
  const { process, output } = await started(project, { files: ["hanging"], reporter: "list" });
  try {
    const id = await process.says(/holding (\S+)/);
    process.interrupt();
    await process.ended();
    expect(await stateOf(id)).toMatchObject({ ended_by: "released" });
  } finally {
    await process.end();
    await rm(output, { recursive: true });
  }
});
