/** What a lease's age is measured with, when the machine sleeps and when its time of day is set. */

import { expect, test } from "@playwright/test";

import { Clock } from "../src/clock";
import { lease as leaseOf, Project } from "./support/farm";
import { clientProgram } from "./support/programs";

const HOUR = 3_600_000;

/** Milliseconds that a clock says have gone by, of the steps of both clocks between its looks. */
function elapsed(steps: { steady: number; timeOfDay: number }[]): number {
  let [steady, timeOfDay] = [5_000, 1_700_000_000_000];
  const clock = new Clock(
    () => steady,
    () => timeOfDay,
  );
  const before = clock.now();
  for (const step of steps) {
    steady += step.steady;
    timeOfDay += step.timeOfDay;
    clock.now();
  }
  return clock.now() - before;
}

test("an hour asleep is an hour, where the steady clock stands still and where it goes on", () => {
  const awake = { steady: 1_000, timeOfDay: 1_000 };
  expect(elapsed([awake, { steady: 10, timeOfDay: HOUR }, awake])).toBe(HOUR + 2_000);
  expect(elapsed([awake, { steady: HOUR, timeOfDay: HOUR }, awake])).toBe(HOUR + 2_000);
});

test("a time of day that is slewed or set back changes no age", () => {
  expect(elapsed(Array(600).fill({ steady: 1_000, timeOfDay: 1_005 }))).toBe(600_000);
  expect(elapsed([{ steady: 1_000, timeOfDay: -HOUR }])).toBe(1_000);
});

/** A program with a `lease`, on a machine that can `sleep`, for milliseconds: its steady clock stands still then, as on Linux. */
function sleeper(project: Project, code: string) {
  return clientProgram(
    `const awake = setInterval(() => undefined, 60_000);
    farm.acquire().then(async (lease) => { ${code} }).finally(() => clearInterval(awake));`,
    { BOTFARM_PROJECT: project.name },
    `let asleep = 0;
    const timeOfDay = Date.now;
    Date.now = () => timeOfDay() + asleep;
    const sleep = (milliseconds) => (asleep += milliseconds);`,
  );
}

test("a machine that slept for longer than its lease finds it lost, when it awakes and at each use", async () => {
  const project = await Project.withUsers(2, { default_ttl: 60 });
  const bell = sleeper(
    project,
    `const { lost } = lease;
    const rings = new Promise((resolve) => lost.addEventListener("abort", resolve));
    sleep(61_000);
    await rings;
    console.log("rings: " + lost.reason.message);`,
  );
  const use = sleeper(project, `sleep(61_000); console.log("found: " + lease.lost.reason?.message);`);
  try {
    expect(await bell.says(/rings: (.*)/, 20_000)).toContain("this machine or process stood still");
    expect(await use.says(/found: (.*)/, 20_000)).toContain("this machine or process stood still");
  } finally {
    await Promise.all([bell.end(), use.end()]);
  }
});

test("a machine that slept for less renews its lease at once", async () => {
  const project = await Project.withUsers(1, { default_ttl: 60 });
  const program = sleeper(
    project,
    `sleep(30_000);
    console.log("has: " + lease.id);
    await new Promise((resolve) => process.once("SIGINT", resolve));
    console.log("lost: " + lease.lost.aborted);
    await lease.release();`,
  );
  try {
    const id = await program.says(/has: (.*)/);
    const { acquired_at } = await leaseOf(id);
    await expect.poll(async () => Date.parse((await leaseOf(id)).expires_at)).toBeGreaterThan(Date.parse(acquired_at) + 60_000);
    program.interrupt();
    expect(await program.says(/lost: (.*)/)).toBe("false");
    expect(await program.ended(), program.output).toBe(0);
  } finally {
    await program.end();
  }
});
