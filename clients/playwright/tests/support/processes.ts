import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";

/** A program with what it has said so far. */
export class Process {
  readonly #child: ChildProcess;
  output = "";

  constructor(command: string, args: string[], options: { cwd: string; env: NodeJS.ProcessEnv }) {
    this.#child = spawn(command, args, { ...options, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => (this.output += text));
    }
  }

  async says(pattern: RegExp, milliseconds = 60_000): Promise<string> {
    const deadline = Date.now() + milliseconds;
    for (;;) {
      const found = pattern.exec(this.output)?.[1];
      if (found) return found;
      if (this.#child.exitCode !== null) throw new Error(`it ended with ${this.#child.exitCode}:\n${this.output}`);
      if (Date.now() > deadline) throw new Error(`no ${pattern} in time:\n${this.output}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Its exit code, when both of its outputs are closed. */
  async ended(): Promise<number | null> {
    if (this.#child.exitCode === null) await once(this.#child, "close");
    return this.#child.exitCode;
  }

  interrupt(): void {
    this.#child.kill("SIGINT");
  }

  async end(): Promise<void> {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const closed = once(this.#child, "close");
      this.#child.kill("SIGTERM");
      await closed;
    }
  }
}

/** Ours without any setting of the person who runs the tests. */
export function cleanEnvironment(additions: Record<string, string>): NodeJS.ProcessEnv {
  const kept = Object.entries(process.env).filter(([name]) => !/^(BOTFARM_|PW_|PLAYWRIGHT_|TEST_|FORCE_COLOR)/.test(name));
  return { ...Object.fromEntries(kept), ...additions };
}
