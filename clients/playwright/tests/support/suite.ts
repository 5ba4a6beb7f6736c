/** Another Playwright run, against the farm and the shop of the tests, and what its report says. */

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";

import type { JSONReport, JSONReportSuite, JSONReportTestResult } from "@playwright/test/reporter";

import { type Project, shopUrl, token, url } from "./farm";
import { cleanEnvironment, Process } from "./processes";

const OURS = resolve(__dirname, "../suites");
/** Installs the package as its users do. */
export const OF_THE_SHOP = resolve(__dirname, "../../../../examples/shop/playwright");

export interface Ran {
  exitCode: number | null;
  /** By title. */
  results: Map<string, JSONReportTestResult>;
  annotations: Map<string, { type: string; description?: string }[]>;
  /** Everything that was printed. */
  output: string;
  /** Everything that was reported or printed. */
  text: string;
}

interface Options {
  /** Without `.spec.ts`. */
  files?: string[];
  workers?: number;
  env?: Record<string, string>;
  folder?: string;
  reporter?: string;
  /** Prints into a pipe, as in CI, because Node gives its children sockets. The exit code is that of the pipe's reader. */
  piped?: boolean;
}

/** `output` is a folder that the caller removes. */
export async function started(
  project: Project,
  { files = [], workers = 1, env = {}, folder = OURS, reporter = "json", piped = false }: Options,
): Promise<{ process: Process; output: string }> {
  const output = await mkdtemp(join(tmpdir(), "botfarm-suite-"));
  const playwright = join(dirname(require.resolve("@playwright/test/package.json", { paths: [folder] })), "cli.js");
  const how = [`--workers=${workers}`, `--reporter=${reporter}`, `--output=${join(output, "results")}`];
  // Playwright compares a filter with the whole path, in which the name of the checkout may contain the name of a file.
  const filters = files.map((name) => `/${name}\\.spec\\.ts$`);
  const command = [process.execPath, playwright, "test", ...filters, ...how];
  const [program, ...args] = piped ? ["sh", "-c", '"$@" 2>&1 | cat', "sh", ...command] : command;
  const suite = new Process(program!, args, {
    cwd: folder,
    env: cleanEnvironment({
      BOTFARM_URL: url,
      BOTFARM_TOKEN: token,
      BOTFARM_PROJECT: project.name,
      BOTFARM_ENV: "stage",
      SHOP_URL: shopUrl,
      PLAYWRIGHT_JSON_OUTPUT_FILE: join(output, "report.json"),
      ...env,
    }),
  });
  return { process: suite, output };
}

export async function run(project: Project, options: Options): Promise<Ran> {
  const { process: suite, output } = await started(project, options);
  try {
    const exitCode = await suite.ended();
    const report = await readFile(join(output, "report.json"), "utf8").catch(() => {
      throw new Error(`no report:\n${suite.output}`);
    });
    const specs = allSpecs((JSON.parse(report) as JSONReport).suites);
    const results = new Map(specs.map(({ title, tests }) => [title, tests[0]!.results.at(-1)!]));
    const annotations = new Map(specs.map(({ title, tests }) => [title, tests[0]!.annotations]));
    return { exitCode, results, annotations, output: suite.output, text: report + suite.output };
  } finally {
    await rm(output, { recursive: true });
  }
}

function allSpecs(suites: JSONReportSuite[]): JSONReportSuite["specs"] {
  return suites.flatMap((suite) => [...suite.specs, ...allSpecs(suite.suites ?? [])]);
}

/** What is attached of the lease of a test. */
export function leaseOf(result: JSONReportTestResult | undefined): { id: string; users: { login: string }[] } {
  const attached = result?.attachments.find(({ name }) => name === "botfarm");
  if (!attached?.body) throw new Error(`no lease is attached: ${JSON.stringify(result)}`);
  return JSON.parse(Buffer.from(attached.body, "base64").toString()) as ReturnType<typeof leaseOf>;
}
