/** Sites that keep a sign-in in other ways than the shop does, each below a path of its own. */

import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

const REFRESH = "refresh";

/** The refresh tokens of one sign-in, which is over when any but the newest is used. */
interface Family {
  newest: number;
  isOver: boolean;
}

export class Site {
  /** Sign-ins, the use of an old refresh token, and what tests say by `/said/WORD`, in this order. */
  readonly log: string[] = [];
  readonly #families: Family[] = [];
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((request, response) => this.#serve(request, response));
  }

  static async open(): Promise<Site> {
    const site = new Site();
    site.#server.listen(0, "127.0.0.1");
    await once(site.#server, "listening");
    return site;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const [, area, word = ""] = (request.url ?? "").split("/");
    if (word === "sign-in") this.log.push("sign-in");
    if (area === "said") this.log.push(decodeURIComponent(word));
    if (area === "rotating") this.#rotating(word, request.headers.cookie ?? "", response);
    else if (area === "database") page(response, word === "sign-in" ? INTO_DATABASE : FROM_DATABASE);
    else if (area === "tab") page(response, word === "sign-in" ? INTO_TAB : FROM_TAB);
    else page(response, "");
  }

  #rotating(word: string, cookies: string, response: ServerResponse): void {
    if (cookies.includes("silent=1")) return;
    const [, id, number] = /refresh=(\d+)\.(\d+)/.exec(cookies) ?? [];
    let family = id === undefined ? undefined : this.#families[Number(id)];
    if (word === "sign-in") this.#families.push((family = { newest: -1, isOver: false }));
    else if (family && family.newest !== Number(number)) {
      this.log.push("replay");
      family.isOver = true;
    }
    if (family && word === "sign-out") family.isOver = true;
    if (!family || family.isOver) return page(response, says("out"));
    family.newest += 1;
    response.setHeader("Set-Cookie", `${REFRESH}=${this.#families.indexOf(family)}.${family.newest}; HttpOnly; Path=/`);
    page(response, says("in"));
  }
}

function page(response: ServerResponse, script: string): void {
  response.setHeader("Content-Type", "text/html").end(`<!doctype html><title>site</title><script>${script}</script>`);
}

function says(state: string): string {
  return `document.documentElement.dataset.signed = ${JSON.stringify(state)};`;
}

const INTO_TAB = `sessionStorage.setItem("token", "a-secret-of-the-tab"); ${says("in")}`;
const FROM_TAB = `if (sessionStorage.getItem("token")) { ${says("in")} } else { ${says("out")} }`;

const OPEN_DATABASE = `
  const opening = indexedDB.open("identity", 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore("tokens");`;
const INTO_DATABASE = `${OPEN_DATABASE}
  opening.onsuccess = () => {
    const writing = opening.result.transaction("tokens", "readwrite");
    writing.objectStore("tokens").put({ token: "a-secret-of-the-database" }, "me");
    writing.oncomplete = () => { ${says("in")} };
  };`;
const FROM_DATABASE = `${OPEN_DATABASE}
  opening.onsuccess = () => {
    const reading = opening.result.transaction("tokens").objectStore("tokens").get("me");
    reading.onsuccess = () => { if (reading.result) { ${says("in")} } else { ${says("out")} } };
  };`;
