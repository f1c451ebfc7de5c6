/** What the API needs from the rest of the gateway; `main.ts` provides it. */
import type { Verifier } from "../identity/verifier.ts";
import type { Logger } from "../log.ts";
import type { Revision } from "../policy/decision.ts";

import type { Metrics } from "./metrics.ts";
import type { ApiStore } from "./views.ts";

export interface Readiness {
  readonly ok: boolean;
  /** Name of each check and what it found: "ok", or words free of secrets. */
  readonly checks: Readonly<Record<string, string>>;
}

export interface PolicyStatus {
  readonly revision: Revision;
  readonly source?: string;
  /** Id of the key that signed the bundle, where signatures are verified. */
  readonly signedBy?: string | undefined;
  /** Milliseconds since the epoch: since when it is in force, and when another was last looked for. */
  readonly loadedAt?: number;
  readonly attemptedAt?: number;
  /** Why the latest reload failed; undefined when it did not. */
  readonly lastError?: string | undefined;
}

export interface ApiDependencies {
  readonly verifier: Verifier;
  readonly store: ApiStore;
  readonly log: Logger;
  readonly metrics: Pick<Metrics, "render">;
  ready(): Readiness | Promise<Readiness>;
  policyStatus(): PolicyStatus;
  /** The effective data of the policy: `auditors` in it says who may see every recording. */
  policyData(): unknown;
  /** Recomputes the chain of a session's recording. */
  verifySession(id: string): Promise<unknown>;
  /** An approval was decided here: whoever holds its command in this process need not wait for the next look. */
  approvalDecided?(id: string): void;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
  /** Shown by /v1/status. */
  readonly name?: string;
}
