/**
 * How requests get to the farm: by undici, Node's own HTTP client, on connections of our own. So nothing that a suite does to
 * the global fetch or to node:http (msw, nock, a global dispatcher) records, mocks or replays what the farm is asked.
 */

import { BlockList, isIP, isIPv6 } from "node:net";

import { Agent, type Dispatcher, ProxyAgent } from "undici";

import { SettingsError } from "./errors";

type Environment = NodeJS.ProcessEnv;

// The time limits are those of each call: a farm may be asked to wait for longer than undici's own five minutes.
const UNLIMITED = { headersTimeout: 0, bodyTimeout: 0 };

export interface Network {
  dispatcher: Dispatcher;
  /** The address of the proxy that is asked, without its password. */
  proxy: string | undefined;
}

/** Reads HTTPS_PROXY (or HTTP_PROXY) and NO_PROXY. Throws SettingsError, which names the variable and never its value. */
export function networkTo(farm: string, environment: Environment = process.env): Network {
  const url = new URL(farm);
  const name = url.protocol === "https:" ? "HTTPS_PROXY" : "HTTP_PROXY";
  const value = read(environment, name);
  if (!value || isExcluded(url, read(environment, "NO_PROXY"))) {
    return { dispatcher: new Agent(UNLIMITED), proxy: undefined };
  }
  const proxy = proxyAddress(value, name);
  // Without a tunnel to a farm on http://: many proxies open tunnels to port 443 only.
  const how = { ...UNLIMITED, uri: proxy.origin, proxyTunnel: false };
  const dispatcher = new ProxyAgent(proxy.username ? { ...how, token: basic(proxy, name) } : how);
  return { dispatcher, proxy: proxy.origin };
}

/** The name in small letters counts first, as for curl and Node. */
function read(environment: Environment, name: string): string {
  return (environment[name.toLowerCase()] || environment[name] || "").trim();
}

function proxyAddress(value: string, name: string): URL {
  const text = value.includes("://") ? value : `http://${value}`;
  const url = URL.canParse(text) ? new URL(text) : undefined;
  // A password with a slash in it ends the host, and what is behind it looks like a path.
  if (!url || !/^https?:$/.test(url.protocol) || url.pathname !== "/" || url.search || url.hash) {
    throw wrongProxy(name);
  }
  return url;
}

/** Here and not by ProxyAgent, which sends no user without a password and throws a URIError for a `%` that encodes nothing. */
function basic({ username, password }: URL, name: string): string {
  try {
    return `Basic ${Buffer.from(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`).toString("base64")}`;
  } catch {
    throw wrongProxy(name);
  }
}

function wrongProxy(name: string): SettingsError {
  return new SettingsError(
    `${name}: the address of a proxy is like http://user:password@host:port, with % / ? # of a password written as %25 %2F %3F %23`,
  );
}

/** Whether NO_PROXY has the host: `*`, `farm.test`, `.test`, `*.test`, an address, a range, or a network, each with a port or without. */
function isExcluded(url: URL, list: string): boolean {
  const host = url.hostname.replace(/^\[|\]$/g, "");
  const port = url.port || (url.protocol === "https:" ? "443" : "80");
  return list.split(/[\s,]+/).some((entry) => {
    const [, bracketed, plain, wantedPort] = /^(?:\[(.*)\]|([^:]*|.*:.*:.*?))(?::(\d+))?$/.exec(entry) ?? [];
    const pattern = (bracketed ?? plain ?? "").toLowerCase();
    if (!pattern || (wantedPort && wantedPort !== port)) return false;
    return pattern === "*" || (isIP(host) ? hasAddress(pattern, host) : hasName(pattern, host));
  });
}

function hasName(pattern: string, host: string): boolean {
  const suffix = /^\*?(\..+)$/.exec(pattern)?.[1];
  return suffix ? host.endsWith(suffix) : host === pattern;
}

function hasAddress(pattern: string, host: string): boolean {
  const family = isIPv6(host) ? "ipv6" : "ipv4";
  const [first = "", last] = pattern.split("-");
  const [address = "", prefix] = first.split("/");
  const matching = new BlockList();
  try {
    if (last !== undefined) matching.addRange(first, last, family);
    else if (prefix !== undefined) matching.addSubnet(address, Number(prefix), family);
    else matching.addAddress(address, family);
  } catch {
    return false; // a name, or an address of the other family
  }
  return matching.check(host, family);
}
