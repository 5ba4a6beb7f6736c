/** One farm over HTTP: problems as errors, and patience with failures that pass. */

import { fetch, type Response } from "undici";

import { now, pause, type PauseOptions } from "./clock";
import { IdentityRefusedError, ProblemError, UnreachableError } from "./errors";
import { RunToken } from "./identity";
import { type Network, networkTo } from "./network";
import type { Settings } from "./settings";
import type { Problem } from "./types";

/** Milliseconds. How long an answer may take, and how long a call that fails is tried again. */
export const ANSWER_TIMEOUT = 30_000;
export const GRACE = 10_000;
/** The farm may wait so long for the next one-time code. */
export const LONGEST_CODE_WAIT = 31_000;
/** For one-time codes: when several holders ask for codes of one user, each waits for a code of its own. */
export const CODE_PATIENCE = 90_000;
const FIRST_PAUSE = 250;
const LONGEST_PAUSE = 5_000;
const MAY_PASS = new Set([429, 502, 503, 504]);

export interface Call {
  method: "GET" | "POST" | "PATCH";
  path: string;
  body?: object;
  idempotencyKey?: string;
  /** Milliseconds. */
  timeout?: number;
}

export interface Persistence extends PauseOptions {
  /** On our clock. */
  until: number;
  /** Which failures the call is repeated after: else those that pass. */
  repeats?: (error: unknown) => boolean;
}

export class Connection {
  readonly #url: string;
  readonly #token: string;
  readonly #run: RunToken | undefined;
  readonly #network: Network;
  #wasReached = false;

  constructor({ url, token, identity }: Settings) {
    this.#url = `${url.replace(/\/+$/, "")}/api/v1`;
    this.#network = networkTo(url);
    this.#token = token ?? "";
    this.#run = identity && new RunToken(this.#url, identity, this.#network);
  }

  /**
   * Repeats a call that may be repeated, while it fails in ways that pass.
   * A farm that has never answered is given up sooner: its address is probably wrong.
   */
  async persist<Answer>(
    attempt: () => Promise<Answer>,
    { until, repeats = mayPass, ...pausing }: Persistence,
  ): Promise<Answer> {
    const soon = Math.min(until, now() + GRACE);
    for (let failures = 0; ; failures += 1) {
      pausing.signal?.throwIfAborted();
      try {
        return await attempt();
      } catch (error) {
        const left = (this.#wasReached ? until : soon) - now();
        if (!repeats(error) || left <= 0) throw error;
        await pause(Math.min(left, pauseAfter(error, failures)), pausing);
      }
    }
  }

  /** Throws ProblemError or UnreachableError. */
  async call<Answer>(call: Call): Promise<Answer> {
    const token = await this.#value();
    try {
      return await this.#send<Answer>(call, token);
    } catch (error) {
      if (!this.#run || !(error instanceof ProblemError) || error.status !== 401) throw error;
      this.#run.refused(token);
      return await this.#send<Answer>(call, await this.#value());
    }
  }

  async #value(): Promise<string> {
    try {
      return this.#run ? await this.#run.value() : this.#token;
    } catch (error) {
      throw error instanceof IdentityRefusedError ? error : this.#unreachable(error);
    }
  }

  #unreachable(error: unknown): UnreachableError {
    const via = this.#network.proxy ? ` by way of the proxy ${this.#network.proxy}` : "";
    return new UnreachableError(`no answer from ${this.#url}${via}: ${reasonOf(error)}`, { cause: error });
  }

  async #send<Answer>({ method, path, body, idempotencyKey, timeout = ANSWER_TIMEOUT }: Call, token: string): Promise<Answer> {
    const signal = AbortSignal.timeout(Math.ceil(timeout));
    let response: Response;
    let text: string;
    try {
      response = await fetch(this.#url + path, {
        method,
        headers: {
          Authorization: `Bearer ${token}`,
          ...(body && { "Content-Type": "application/json" }),
          ...(idempotencyKey && { "Idempotency-Key": idempotencyKey }),
        },
        ...(body && { body: JSON.stringify(body) }),
        signal,
        dispatcher: this.#network.dispatcher,
        redirect: "manual", // a body with credentials is for the farm that was named
      });
      text = await response.text();
    } catch (error) {
      throw this.#unreachable(error);
    }
    this.#wasReached = true;
    const document = parse(text);
    if (response.ok && document) return document as Answer;
    if (response.ok) throw new UnreachableError(`what answers at ${this.#url} is no farm`);
    throw new ProblemError(problemOf(response, document), retryAfterOf(response));
  }
}

/** Whether the same call may succeed later. */
export function mayPass(error: unknown): boolean {
  return error instanceof UnreachableError || (error instanceof ProblemError && MAY_PASS.has(error.status));
}

/** Milliseconds: longer each time and never the same for all, and not before the farm wants to be asked again. */
function pauseAfter(error: unknown, failures: number): number {
  const wanted = error instanceof ProblemError ? (error.retryAfter ?? 0) * 1_000 : 0;
  const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** failures);
  return wanted + longest * (0.5 + Math.random() / 2);
}

function parse(text: string): object | undefined {
  try {
    const document: unknown = JSON.parse(text);
    return typeof document === "object" && document !== null ? document : undefined;
  } catch {
    return undefined;
  }
}

/** A proxy on the way may answer with a page of its own. */
function problemOf(response: Response, document: object | undefined): Problem {
  const isProblem = response.headers.get("content-type")?.startsWith("application/problem+json");
  if (isProblem && document) return document as Problem;
  const title = response.statusText || "No answer of a farm";
  return { type: "about:blank", title, status: response.status, detail: title, request_id: "" };
}

function retryAfterOf(response: Response): number | undefined {
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return Number.isFinite(seconds) ? seconds : undefined;
}

/** fetch hides what happened behind "fetch failed". */
function reasonOf(error: unknown): string {
  const { cause, message } = error as Error & { cause?: Error & { code?: string } };
  return cause?.code ?? cause?.message ?? message;
}
