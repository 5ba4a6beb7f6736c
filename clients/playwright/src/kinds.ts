/** The kinds of users that a test wants together, and the leases that give them. */

import type { Wanted } from "./client";

/** One user of a test. What it does not say is as the options of the run say. */
export interface BotKind {
  env?: NonNullable<Wanted["env"]>;
  domain?: NonNullable<Wanted["domain"]>;
  labels?: NonNullable<Wanted["labels"]>;
  /** The login of one particular user: domain and labels do not matter. */
  user?: string;
}

export interface WantedTogether {
  wanted: Wanted;
  /** Where the users of this lease stand among all users of the test. */
  places: number[];
}

/** What the farm is asked for one user of this kind. */
export function ofKind({ domain: usualDomain, labels: usualLabels, ...shared }: Wanted, kind: BotKind): Wanted {
  const { env, user, domain = usualDomain, labels = usualLabels } = kind;
  const asked = { ...shared, ...(env && { env }) };
  return user ? { ...asked, user } : { ...asked, ...(domain && { domain }), ...(labels && { labels }) };
}

/**
 * Users that are wanted alike share a lease, and so come all together or not at all. Leases are taken in the same order in
 * every test, the particular ones first, so that no two tests wait for each other.
 */
export function together(all: readonly Wanted[]): WantedTogether[] {
  const groups = new Map<string, WantedTogether>();
  all.forEach((wanted, place) => {
    const key = JSON.stringify(wanted);
    const group = groups.get(key) ?? { wanted, places: [] };
    group.places.push(place);
    groups.set(key, group);
  });
  const inOrder = [...groups].sort(([a, { wanted: one }], [b, { wanted: other }]) => {
    return particularity(other) - particularity(one) || (a < b ? -1 : 1);
  });
  return inOrder.map(([, group]) => group);
}

function particularity({ user, labels = {} }: Wanted): number {
  return user ? Number.POSITIVE_INFINITY : Object.keys(labels).length;
}
