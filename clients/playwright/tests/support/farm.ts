/** The farm of the tests as its manager sees it. */

import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";

import { Botfarm } from "../../src/client";
import type { LeaseAnswer } from "../../src/client";
import type { components } from "../../src/openapi";

type Schemas = components["schemas"];

export const url = process.env["TEST_FARM_URL"] ?? "";
export const token = process.env["TEST_FARM_TOKEN"] ?? "";
export const shopUrl = process.env["TEST_SHOP_URL"] ?? "";
export const PASSWORD = "correct horse battery staple";

export async function api<Answer>(method: string, path: string, body?: object): Promise<Answer> {
  const response = await fetch(`${url}/api/v1${path}`, {
    method,
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    ...(body && { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
  return (text ? JSON.parse(text) : undefined) as Answer;
}

/** A project that no other test knows. */
export class Project {
  private constructor(
    readonly id: string,
    readonly name: string,
  ) {}

  static async create(policy: Partial<Schemas["NewProject"]> = {}): Promise<Project> {
    const name = `project-${randomUUID().slice(0, 8)}-x`;
    const { id } = await api<Schemas["ProjectOut"]>("POST", "/projects", { name, ...policy });
    return new Project(id, name);
  }

  static async withUsers(count: number, policy: Partial<Schemas["NewProject"]> = {}): Promise<Project> {
    const project = await Project.create(policy);
    for (let number = 1; number <= count; number += 1) await project.addUser(`user-${number}@shop.test`, PASSWORD);
    return project;
  }

  /** With the first customers of the shop. */
  static async ofTheShop(count: number, policy: Partial<Schemas["NewProject"]> = {}): Promise<Project> {
    const project = await Project.create(policy);
    const lines = (await readFile(process.env["TEST_ACCOUNTS"] ?? "", "utf8")).trim().split("\n");
    for (const line of lines.slice(0, count)) {
      const { login, password } = JSON.parse(line) as { login: string; password: string };
      await project.addUser(login, password);
    }
    return project;
  }

  async addUser(login: string, password: string, more: Partial<Schemas["NewUser"]> = {}): Promise<void> {
    const user = { login, password, project_id: this.id, env: "stage", domain: "regular", ...more };
    await api("POST", "/users", user);
  }

  client(at = url, as = token): Botfarm {
    return new Botfarm({ url: at, token: as, project: this.name, env: "stage" });
  }

  /** The oldest first. */
  async leases(state?: "active" | "ended"): Promise<LeaseAnswer[]> {
    const query = new URLSearchParams({ project_id: this.id, limit: "1000", ...(state && { state }) });
    const { items } = await api<{ items: LeaseAnswer[] }>("GET", `/leases?${query}`);
    return items.reverse();
  }

  async users(): Promise<Schemas["UserOut"][]> {
    const query = new URLSearchParams({ project_id: this.id, limit: "1000" });
    return (await api<{ items: Schemas["UserOut"][] }>("GET", `/users?${query}`)).items;
  }
}

export async function lease(id: string): Promise<LeaseAnswer> {
  return api("GET", `/leases/${id}`);
}

export async function shopStats(): Promise<{ sign_ins: number; thrown_out: number }> {
  return (await (await fetch(`${shopUrl}/stats`)).json()) as { sign_ins: number; thrown_out: number };
}
