/** Tries a policy in a process of its own before it is put in force: nothing that is wrong with it can reach this one. */
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import type { Bundle } from "./bundle.ts";
import type { PolicyMaterial } from "./material.ts";
import type { Verification } from "./signature.ts";
import type { TrialRequest, TrialResult } from "./trial-process.ts";

export interface Tried {
  readonly bundle: Bundle;
  /** Id of the key that signed it, where that was asked. */
  readonly signedBy?: string;
}

/** @throws GatewayError `policy.*`, with what is wrong. */
export async function tryMaterial(material: PolicyMaterial, verification?: Verification): Promise<Tried> {
  const answered = Promise.withResolvers<TrialResult | undefined>();
  const child = Bun.spawn([process.execPath, `${import.meta.dir}/trial-process.ts`], {
    ...{ env: {}, stdin: "ignore", stdout: "ignore", stderr: "ignore", serialization: "advanced" },
    ipc: (message: TrialResult) => answered.resolve(message),
    onExit: () => answered.resolve(undefined),
  });
  const timer = setTimeout(() => child.kill("SIGKILL"), limits.policyTrialMs);
  try {
    child.send({ material, ...(verification && { verification }) } satisfies TrialRequest);
    const result = await answered.promise;
    if (result === undefined)
      throw new GatewayError(
        "policy.bundle_invalid",
        `policy bundle: its trial ended without an answer, or did not end`,
      );
    if (!result.ok)
      throw new GatewayError(result.code, result.message, {
        // Data names its own file.
        ...(result.message.startsWith("policy bundle:") && { hint: `The bundle is ${material.source}.` }),
        ...(result.detail !== undefined && { cause: new Error(result.detail) }),
      });
    return result;
  } finally {
    clearTimeout(timer);
    child.kill("SIGKILL");
  }
}
