/** Short names for what the farm's OpenAPI document describes; nothing is described here. */

import type { components } from "./openapi";

type Schemas = components["schemas"];

export type LeaseAnswer = Schemas["LeaseOut"];
export type LeaseRequest = Schemas["LeaseRequest"];
export type LeasedUser = Schemas["LeasedUserOut"];
export type Outcome = Schemas["Outcome"];
export type Problem = Schemas["Problem"];
export type Reason = Schemas["Reason"];
export type Release = Schemas["Release"];
export type Totp = Schemas["TotpOut"];
/** Of one user. */
export type Verdict = Omit<Schemas["UserVerdict"], "id">;
export type WriteBack = Schemas["WriteBack"];
