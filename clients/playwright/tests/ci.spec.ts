import { expect, test } from "@playwright/test";

import { ciJob, tail } from "../src/ci";

const JOBS = {
  github: {
    GITHUB_ACTIONS: "true",
    GITHUB_SERVER_URL: "https://git.test",
    GITHUB_REPOSITORY: "acme/shop",
    GITHUB_RUN_ID: "9",
    GITHUB_RUN_ATTEMPT: "2",
    page: "https://git.test/acme/shop/actions/runs/9/attempts/2",
  },
  gitlab: { GITLAB_CI: "true", CI_JOB_URL: "https://git.test/jobs/9", page: "https://git.test/jobs/9" },
  buildkite: {
    BUILDKITE: "true",
    BUILDKITE_BUILD_URL: "https://ci.test/9",
    BUILDKITE_JOB_ID: "0190",
    page: "https://ci.test/9#0190",
  },
  teamcity: { TEAMCITY_VERSION: "2025.11", BUILD_URL: "https://ci.test/9", page: "https://ci.test/9" },
  jenkins: { JENKINS_URL: "https://ci.test/", BUILD_URL: "https://ci.test/job/9/", page: "https://ci.test/job/9/" },
};

for (const [ci, { page, ...variables }] of Object.entries(JOBS)) {
  test(`a job of ${ci} is known by its page`, () => {
    expect(ciJob(variables)).toMatchObject({ ci, job_url: page });
  });
}

test("what a CI does not say is absent, and outside of any there is nothing", () => {
  expect(ciJob({ GITHUB_ACTIONS: "true", GITHUB_REPOSITORY: "acme/shop" })).toEqual({ ci: "github", pipeline: "acme/shop" });
  expect(ciJob({ BUILD_URL: "https://elsewhere.test/" })).toEqual({});
});

test("a long text keeps its end, and is always one that the farm takes", () => {
  expect(tail("short", 5)).toBe("short");
  expect(tail("a title\nof two lines", 10)).toBe("…two lines");
  expect(tail("xx\u{1F6D2}\u{1F6D2}", 4).isWellFormed()).toBe(true);
});
