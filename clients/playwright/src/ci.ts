/** Which CI job this is, as the CI's own variables tell: the farm shows it beside who holds a user. */

type Fact = "job_url" | "pipeline" | "job" | "run" | "branch" | "commit";

const LONGEST_VALUE = 500;

/** For each CI the variable that only it sets, and its facts: of several the first that has all its variables. */
const CIS: Record<string, { mark: string } & Record<Fact, string[]>> = {
  github: {
    mark: "GITHUB_ACTIONS",
    job_url: [
      "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}/attempts/{GITHUB_RUN_ATTEMPT}",
      "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    ],
    pipeline: ["{GITHUB_REPOSITORY}"],
    job: ["{GITHUB_JOB}"],
    run: ["{GITHUB_RUN_NUMBER}"],
    branch: ["{GITHUB_HEAD_REF}", "{GITHUB_REF_NAME}"],
    commit: ["{GITHUB_SHA}"],
  },
  gitlab: {
    mark: "GITLAB_CI",
    job_url: ["{CI_JOB_URL}"],
    pipeline: ["{CI_PROJECT_PATH}"],
    job: ["{CI_JOB_NAME}"],
    run: ["{CI_PIPELINE_IID}"],
    branch: ["{CI_COMMIT_REF_NAME}"],
    commit: ["{CI_COMMIT_SHA}"],
  },
  buildkite: {
    mark: "BUILDKITE",
    job_url: ["{BUILDKITE_BUILD_URL}#{BUILDKITE_JOB_ID}", "{BUILDKITE_BUILD_URL}"],
    pipeline: ["{BUILDKITE_PIPELINE_SLUG}"],
    job: ["{BUILDKITE_LABEL}", "{BUILDKITE_STEP_KEY}"],
    run: ["{BUILDKITE_BUILD_NUMBER}"],
    branch: ["{BUILDKITE_BRANCH}"],
    commit: ["{BUILDKITE_COMMIT}"],
  },
  teamcity: {
    mark: "TEAMCITY_VERSION",
    job_url: ["{BUILD_URL}"],
    pipeline: ["{TEAMCITY_PROJECT_NAME}"],
    job: ["{TEAMCITY_BUILDCONF_NAME}"],
    run: ["{BUILD_NUMBER}"],
    branch: [],
    commit: ["{BUILD_VCS_NUMBER}"],
  },
  jenkins: {
    mark: "JENKINS_URL",
    job_url: ["{BUILD_URL}"],
    pipeline: ["{JOB_NAME}"],
    job: ["{STAGE_NAME}"],
    run: ["{BUILD_NUMBER}"],
    branch: ["{CHANGE_BRANCH}", "{BRANCH_NAME}", "{GIT_BRANCH}"],
    commit: ["{GIT_COMMIT}"],
  },
};

/** Empty outside of any. */
export function ciJob(environment: NodeJS.ProcessEnv = process.env): Record<string, string> {
  for (const [ci, { mark, ...facts }] of Object.entries(CIS)) {
    if (!environment[mark]) continue;
    const found = Object.entries(facts).flatMap(([name, templates]) => {
      const value = templates.map((template) => filled(template, environment)).find(Boolean);
      return value ? [[name, tail(value, LONGEST_VALUE)]] : [];
    });
    return { ci, ...Object.fromEntries(found) };
  }
  return {};
}

/** Printable, and no longer than that: the end of a text says more than its head. */
export function tail(text: string, longest: number): string {
  const line = text.replace(/\p{Cc}/gu, " ");
  return line.length <= longest ? line.toWellFormed() : `…${line.slice(1 - longest)}`.toWellFormed();
}

function filled(template: string, environment: NodeJS.ProcessEnv): string | undefined {
  const names = [...template.matchAll(/\{(\w+)\}/g)].map(([, name]) => name ?? "");
  if (!names.every((name) => environment[name])) return undefined;
  return template.replace(/\{(\w+)\}/g, (_, name: string) => environment[name] ?? "");
}
