import { acquire } from "./acquiring";
import { Connection } from "./connection";
import { SettingsError } from "./errors";
import { Lease } from "./lease";
import { type Settings, settings } from "./settings";
import type { LeaseRequest } from "./types";

export * from "./errors";
export type { Lease } from "./lease";
export type { Settings } from "./settings";
export type {
  LeaseAnswer,
  LeasedUser,
  LeaseRequest,
  Outcome,
  Problem,
  Reason,
  Release,
  Totp,
  WriteBack,
} from "./types";
export type { Why } from "./verdicts";

/** What is wanted of the farm; project and env may come from the settings. */
export type Wanted = Partial<Omit<LeaseRequest, "wait_seconds" | "project_id">> & {
  /** Seconds to wait until users are free, as long as it takes several requests; 0 does not wait. */
  wait?: number;
};

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export class Botfarm {
  readonly #settings: Settings;
  readonly #connection: Connection;

  /** Throws SettingsError when there is no token. */
  constructor(given: Partial<Settings> = {}) {
    this.#settings = settings(given);
    this.#connection = new Connection(this.#settings);
  }

  /** A lease that renews itself until it is released. Throws PoolExhaustedError when nobody became free in time. */
  async acquire({ wait = 0, ...wanted }: Wanted = {}): Promise<Lease> {
    return Lease.keep(this.#connection, await acquire(this.#connection, this.#request(wanted), wait));
  }

  /** Gives the users back however `work` ends. Throws LeaseLostError when the lease was lost meanwhile. */
  async withLease<Result>(wanted: Wanted, work: (lease: Lease) => Promise<Result>): Promise<Result> {
    const lease = await this.acquire(wanted);
    let result: Result;
    try {
      result = await work(lease);
    } catch (error) {
      await lease.release().catch(() => undefined); // what `work` says matters more, unless the lease was lost
      lease.lost.throwIfAborted();
      throw error;
    }
    await lease.release();
    lease.lost.throwIfAborted();
    return result;
  }

  #request(wanted: Omit<Wanted, "wait">): LeaseRequest {
    const project = wanted.project ?? this.#settings.project;
    const env = wanted.env ?? this.#settings.env;
    if (!project) throw new SettingsError("say which project: BOTFARM_PROJECT, or `project`");
    if (!env) throw new SettingsError("say which env: BOTFARM_ENV, or `env`");
    const { project: _, ...rest } = wanted;
    return { ...rest, env, ...(UUID.test(project) ? { project_id: project } : { project }) };
  }
}
