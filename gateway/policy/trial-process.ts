/**
 * The process of `trial.ts`: verifies, parses and tries one policy, says what it found and ends. It is a process and
 * no thread, because an evaluation that never ends can only be ended from outside.
 */
import { setPriority } from "node:os";
import { GatewayError } from "../errors.ts";
import { type Bundle, parseBundle } from "./bundle.ts";
import type { PolicyMaterial } from "./material.ts";
import { Policy } from "./policy.ts";
import { selfTest } from "./self-test.ts";
import { type Verification, verifyBundle } from "./signature.ts";
import { Watchdog } from "./watchdog.ts";

export interface TrialRequest {
  readonly material: PolicyMaterial;
  readonly verification?: Verification;
}

export type TrialResult =
  | { readonly ok: true; readonly bundle: Bundle; readonly signedBy?: string }
  | { readonly ok: false; readonly code: GatewayError["code"]; readonly message: string; readonly detail?: string };

/** Below the data path, which has the machine's cores to share with it. */
const niceness = 10;

async function tryPolicy({ material, verification }: TrialRequest): Promise<TrialResult> {
  try {
    const signedBy = verification && (await verifyBundle(material.bundle, verification));
    const bundle = parseBundle(material);
    // It ends this process too, should the gateway be gone by then.
    selfTest(await Policy.from(material, await Watchdog.start(), bundle));
    return { ok: true, bundle, ...(signedBy !== undefined && { signedBy }) };
  } catch (error) {
    const { cause } = error as Error;
    const detail = cause instanceof Error ? cause.message : undefined;
    if (error instanceof GatewayError)
      return { ok: false, code: error.code, message: error.message, ...(detail !== undefined && { detail }) };
    return { ok: false, code: "policy.bundle_invalid", message: "policy bundle: a fault", detail: String(error) };
  }
}

process.once("message", async (request: TrialRequest) => {
  setPriority(niceness);
  process.send?.(await tryPolicy(request), undefined, undefined, () => process.exit(0));
});
// Its parent is gone: nobody waits.
process.once("disconnect", () => process.exit(1));
