import { readFileSync } from "node:fs";

import { SettingsError } from "./errors";
import type { Env } from "./types";

export interface Settings {
  url: string;
  token: string;
  /** Name or id of the project that a request without one is for. */
  project: string | undefined;
  /** The env of a request without one. */
  env: Env | undefined;
}

/** BOTFARM_URL, BOTFARM_TOKEN (or BOTFARM_TOKEN_FILE), BOTFARM_PROJECT and BOTFARM_ENV, where `given` has nothing. */
export function settings(given: Partial<Settings> = {}, environment = process.env): Settings {
  const url = given.url ?? (environment["BOTFARM_URL"] || "http://127.0.0.1:8000");
  checkUrl(url);
  const token = given.token ?? (environment["BOTFARM_TOKEN"] || tokenFrom(environment["BOTFARM_TOKEN_FILE"]));
  // Checked here, because who sends a header repeats what does not fit into one.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new SettingsError("BOTFARM_TOKEN: a token is one word of printable ASCII");
  return {
    url,
    token,
    project: given.project ?? (environment["BOTFARM_PROJECT"] || undefined),
    env: given.env ?? ((environment["BOTFARM_ENV"] || undefined) as Env | undefined),
  };
}

/** Errors and reports name the address: what is secret has no place in it, and is not repeated here. */
function checkUrl(url: string): void {
  if (!/^https?:\/\/\S+$/.test(url) || !URL.canParse(url)) {
    throw new SettingsError("BOTFARM_URL: an address begins with http:// or https:// and a host");
  }
  const { username, password } = new URL(url);
  if (username || password || /[?#]/.test(url)) {
    throw new SettingsError("BOTFARM_URL: an address has no user, password, query or fragment");
  }
}

function tokenFrom(file: string | undefined): string {
  if (!file) throw new SettingsError("set BOTFARM_TOKEN, or BOTFARM_TOKEN_FILE to a file that holds the token");
  try {
    return readFileSync(file, "utf8").trim();
  } catch {
    throw new SettingsError(`BOTFARM_TOKEN_FILE: ${file} cannot be read`);
  }
}
