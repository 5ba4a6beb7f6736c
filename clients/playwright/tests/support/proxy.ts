/** A way to the farm that can be made bad. */

import { once } from "node:events";
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

import { url as farmUrl } from "./farm";

/** What happens to a request: nothing, a page or a status instead of the farm's answer, its answer cut off, a connection cut, or one on which nothing comes. */
export type Fate = "pass" | "busy" | "lose-answer" | "cut" | "silent" | 401 | 404 | 429 | 500;

export interface Seen {
  path: string;
  key: string | undefined;
  fate: Fate;
}

export class Proxy {
  readonly seen: Seen[] = [];
  readonly #server: Server;
  #fate: (path: string, before: number) => Fate = () => "pass";

  private constructor() {
    this.#server = createServer((incoming, outgoing) => void this.#serve(incoming, outgoing));
  }

  static async open(): Promise<Proxy> {
    const proxy = new Proxy();
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** @param choose By path, and by how many requests of this path there were before. */
  decide(choose: (path: string, before: number) => Fate): void {
    this.#fate = choose;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async #serve(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const path = (incoming.url ?? "").replace("/api/v1", "");
    const fate = this.#fate(path, this.seen.filter((one) => one.path === path).length);
    this.seen.push({ path, key: incoming.headers["idempotency-key"]?.toString(), fate });
    if (fate === "silent") return;
    if (fate === "cut") return void incoming.socket.destroy();
    if (fate === "busy") return void outgoing.writeHead(503, { "Retry-After": "1" }).end("<html>busy</html>");
    if (typeof fate === "number") return void outgoing.writeHead(fate).end("<html>from a proxy</html>");
    const { method, headers } = incoming;
    const onward = request(farmUrl + incoming.url, { method, headers }, (answer) => {
      if (fate === "lose-answer") {
        answer.resume().on("end", () => incoming.socket.destroy());
        return;
      }
      outgoing.writeHead(answer.statusCode ?? 500, answer.headers);
      answer.pipe(outgoing);
    });
    onward.on("error", () => incoming.socket.destroy());
    outgoing.on("close", () => onward.destroy());
    incoming.pipe(onward);
  }
}
