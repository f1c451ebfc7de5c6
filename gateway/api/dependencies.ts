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
  readonly revision: Revision | undefined;
  /** Milliseconds since the epoch. */
  readonly loadedAt?: number;
  /** Why the latest reload was refused; undefined when it was taken. */
  readonly lastError?: string;
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
