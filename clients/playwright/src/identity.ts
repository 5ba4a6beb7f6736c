/**
 * The identity that a CI gives to its runs, and the farm's token that a run gets for it, instead of a secret.
 * GitHub Actions gives an identity token whenever it is asked, GitLab and others put one into BOTFARM_ID_TOKEN: docs/ci.md.
 */

import { fetch } from "undici";

import { now } from "./clock";
import { SettingsError, IdentityRefusedError } from "./errors";
import { type Network, networkTo } from "./network";

const GRANT = "urn:ietf:params:oauth:grant-type:token-exchange";
const JWT = "urn:ietf:params:oauth:token-type:jwt";
/** Milliseconds. */
const ANSWER_TIMEOUT = 30_000;
const MOST_LEFT = 600_000;
const BETWEEN_TRIES = 30_000;

/** Where identity tokens come from: an address to ask, else one token for the whole job. */
export interface Identity {
  audience: string;
  request: { url: string; token: string } | undefined;
  token: string | undefined;
}

type Read = (name: string) => string | undefined;

/** Throws SettingsError, with what the CI needs, when there is no identity. */
export function findIdentity(farm: string, read: Read): Identity {
  const audience = read("BOTFARM_AUDIENCE") ?? farm.replace(/\/+$/, "");
  const url = read("ACTIONS_ID_TOKEN_REQUEST_URL");
  const requestToken = read("ACTIONS_ID_TOKEN_REQUEST_TOKEN");
  const request = url && requestToken ? { url, token: requestToken } : undefined;
  const token = read("BOTFARM_ID_TOKEN");
  if (request || token) return { audience, request, token };
  if (read("GITHUB_ACTIONS")) throw missing("give the job `permissions: id-token: write`, or set BOTFARM_TOKEN");
  if (read("GITLAB_CI")) throw missing(`give the job \`id_tokens: BOTFARM_ID_TOKEN: aud: ${farm}\`, or set BOTFARM_TOKEN`);
  throw missing("set BOTFARM_TOKEN, or BOTFARM_TOKEN_FILE to a file that holds the token");
}

/** The token of this run, exchanged when it is first asked for, and again while a third of its life, or ten minutes, are left. */
export class RunToken {
  #token: string | undefined;
  #endsAt = 0;
  #renewAt = 0;
  #exchange: Promise<string> | undefined;

  constructor(
    /** Of the farm's API. */
    readonly url: string,
    readonly identity: Identity,
    readonly network: Network,
  ) {}

  /** Throws IdentityRefusedError, or what `fetch` throws. */
  async value(): Promise<string> {
    if (this.#token !== undefined && now() < this.#renewAt) return this.#token;
    // Those that ask meanwhile wait for the same exchange.
    this.#exchange ??= this.#renew().finally(() => {
      this.#exchange = undefined;
    });
    return this.#exchange;
  }

  /** The farm does not know this token any more, for example after the machine slept. */
  refused(token: string): void {
    if (this.#token === token) this.#token = undefined;
  }

  async #renew(): Promise<string> {
    try {
      const { token, seconds } = await this.#ask();
      this.#token = token;
      this.#endsAt = now() + seconds * 1_000;
      this.#renewAt = this.#endsAt - Math.min((seconds * 1_000) / 3, MOST_LEFT);
      return token;
    } catch (error) {
      if (this.#token === undefined || now() >= this.#endsAt) throw error;
      this.#renewAt = now() + BETWEEN_TRIES; // it is still valid
      return this.#token;
    }
  }

  async #ask(): Promise<{ token: string; seconds: number }> {
    const identity = await this.#identityToken();
    const response = await fetch(`${this.url}/auth/token`, {
      method: "POST",
      body: new URLSearchParams({ grant_type: GRANT, subject_token_type: JWT, subject_token: identity }),
      signal: AbortSignal.timeout(ANSWER_TIMEOUT),
      dispatcher: this.network.dispatcher,
      redirect: "manual",
    });
    const document = await documentOf(response);
    if (response.status === 400) {
      throw new IdentityRefusedError(
        "the farm refuses this run's identity token: it needs a trust rule whose claims fit, and the audience " +
          `${this.identity.audience} as its BOTFARM_PUBLIC_URL; \`botfarm audit --action exchange_failed\` says why`,
      );
    }
    const { access_token: token, expires_in: seconds } = document;
    if (typeof token === "string" && typeof seconds === "number") return { token, seconds };
    throw new IdentityRefusedError(`the farm gives no token to this run (status ${response.status})`);
  }

  async #identityToken(): Promise<string> {
    const { request, token, audience } = this.identity;
    if (!request) return token ?? "";
    const url = new URL(request.url);
    url.searchParams.set("audience", audience);
    const response = await fetch(url, {
      headers: { Authorization: `Bearer ${request.token}` },
      signal: AbortSignal.timeout(ANSWER_TIMEOUT),
      dispatcher: networkTo(url.href).dispatcher,
      redirect: "manual",
    });
    const { value } = await documentOf(response);
    if (typeof value === "string") return value;
    throw new IdentityRefusedError(
      `the CI gives no identity token (status ${response.status}): give the job \`permissions: id-token: write\``,
    );
  }
}

async function documentOf(response: { json(): Promise<unknown> }): Promise<Record<string, unknown>> {
  try {
    const document = await response.json();
    return typeof document === "object" && document !== null ? (document as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

function missing(hint: string): SettingsError {
  return new SettingsError(`no token: ${hint}`);
}
