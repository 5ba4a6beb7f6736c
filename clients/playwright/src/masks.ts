/** Hides a user's secrets in the log of a GitHub Actions job, whose runner reads commands from what its steps print. */

import { appendFileSync } from "node:fs";

import type { LeasedUser } from "./types";

/** Characters. To hide each short text of a session, such as `true` or `dark`, would make the log unreadable. */
const SHORTEST_SECRET = 16;
/** Local storage is kept by origin. */
const ORIGIN = /^https?:\/\/[^/]+\/?$/;
/** Characters. Escaped, such a piece is at most 4 KiB, which a pipe takes whole, however many workers write to it. */
const LONGEST_PIECE = 1_000;

const known = new Set<string>();
let isTold = false;

/** Does nothing outside of GitHub Actions. */
export function maskInLog(user: LeasedUser, environment: NodeJS.ProcessEnv = process.env): void {
  if (environment["GITHUB_ACTIONS"] !== "true") return;
  for (const line of maskLines(user).filter((each) => !known.has(each))) {
    known.add(line);
    try {
      // Whatever a worker prints is kept in reports, so the line goes past Playwright, to the standard error of its main process.
      // It may be in the middle of a line of its own.
      appendFileSync(`/proc/${process.ppid}/fd/2`, `\n${line}\n`);
    } catch (error) {
      if (!isTold) console.warn(`botfarm: passwords are not masked in this log: ${(error as Error & { code: string }).code}`);
      isTold = true;
    }
  }
}

/** The password as it is, and as JSON, URLs and HTTP write it; of the secrets the texts that are long enough. */
export function maskLines({ login, labels, password = "", secrets }: LeasedUser): string[] {
  const shown = new Set([login, ...Object.values(labels)]);
  const base64 = [password, `${login}:${password}`].map((text) => Buffer.from(text).toString("base64").replace(/=+$/, ""));
  const forms = password && !shown.has(password) ? [password, inJson(password), encodeURIComponent(password.toWellFormed()), ...base64] : [];
  const long = [...texts(secrets)].filter((text) => text.length >= SHORTEST_SECRET && !shown.has(text) && !ORIGIN.test(text));
  const lines = [...forms, ...long].flatMap((text) => text.split(/[\r\n]+/)).flatMap(pieces).filter((line) => line.trim());
  return [...new Set(lines)]
    .sort((one, other) => other.length - one.length)
    .map((line) => `::add-mask::${line.replaceAll("%", "%25")}`);
}

/** A last piece that is too short to be a secret by itself is left out. */
function pieces(line: string): string[] {
  const starts = Array.from({ length: Math.ceil(line.length / LONGEST_PIECE) }, (_, index) => index * LONGEST_PIECE);
  const found = starts.map((start) => line.slice(start, start + LONGEST_PIECE));
  return found.filter((piece, index) => index === 0 || piece.length >= SHORTEST_SECRET);
}

/** The content of a cookie or an entry of local storage, of a database, and of one of its stores. */
const CONTENTS = ["value", "stores", "records"];

/** Of what has a name only the content: its name, domain and path are no secrets. */
function* texts(secret: unknown): Generator<string> {
  if (typeof secret === "string") yield secret;
  else if (Array.isArray(secret)) for (const each of secret) yield* texts(each);
  else if (typeof secret === "object" && secret !== null) {
    const parts: [string, unknown][] = Object.entries(secret);
    const content = "name" in secret && parts.find(([name]) => CONTENTS.includes(name));
    for (const [, each] of content ? [content] : parts) yield* texts(each);
  }
}

function inJson(text: string): string {
  return JSON.stringify(text).slice(1, -1);
}
