import { readFileSync } from "node:fs";

import { SettingsError } from "./errors";

export interface Settings {
  url: string;
  token: string;
  /** Name or id of the project that a request without one is for. */
  project: string | undefined;
  /** The env of a request without one. */
  env: string | undefined;
}

/** BOTFARM_URL, BOTFARM_TOKEN (or BOTFARM_TOKEN_FILE), BOTFARM_PROJECT and BOTFARM_ENV, where `given` has nothing. */
export function settings(given: Partial<Settings> = {}, environment = process.env): Settings {
  // Forms of CI settings and files leave blanks, line ends and byte order marks around a value; trim() takes all of these.
  const read = (name: string) => environment[name]?.trim() || undefined;
  const url = given.url?.trim() ?? read("BOTFARM_URL") ?? "http://127.0.0.1:8000";
  checkUrl(url);
  const token = given.token?.trim() ?? read("BOTFARM_TOKEN") ?? tokenFrom(read("BOTFARM_TOKEN_FILE"));
  // Checked here, because who sends a header repeats what does not fit into one.
  if (!/^[\x21-\x7e]+$/.test(token)) throw new SettingsError("BOTFARM_TOKEN: a token is one word of printable ASCII");
  return {
    url,
    token,
    project: given.project ?? read("BOTFARM_PROJECT"),
    env: given.env ?? read("BOTFARM_ENV"),
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
    return decoded(readFileSync(file)).trim();
  } catch {
    throw new SettingsError(`BOTFARM_TOKEN_FILE: ${file} cannot be read`);
  }
}

/** UTF-8, or what PowerShell 5 writes into a file: UTF-16 behind a byte order mark. */
function decoded(content: Buffer): string {
  const isUtf16 = content[0] === 0xff && content[1] === 0xfe;
  return content.toString(isUtf16 ? "utf16le" : "utf8");
}
