import type { LeasedUser } from "./types";

/**
 * Credentials that are read by name only: printed, serialised or copied as a whole a user has none, as the logs and reports
 * of tests are read by many.
 */
export function discreet({ password, secrets, totp, ...shown }: LeasedUser): LeasedUser {
  // Getters, as inspect with showHidden prints the values of hidden properties, too.
  return Object.defineProperties(shown, {
    password: { get: () => password },
    secrets: { get: () => secrets },
    totp: { get: () => totp },
  });
}
