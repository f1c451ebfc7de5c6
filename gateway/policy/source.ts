/** Where a policy comes from: files, or a bundle server and the deployment's data file. */
import { isRemote, type PoliciesConfig } from "../config.ts";
import type { PolicyMaterial } from "./material.ts";
import { readMaterial } from "./material.ts";
import { ServerSource } from "./server-source.ts";

export type PolicySettings = Pick<PoliciesConfig, "bundle"> & Partial<PoliciesConfig>;

export interface Reading {
  readonly material: PolicyMaterial;
  /** Why it is only what is in force already, and not what was asked for. */
  readonly problem?: unknown;
}

export interface PolicySource {
  /** Throws `policy.*` where there is nothing to try. */
  read(): Promise<Reading>;
  /** For a start where what was read is no good: the latest that was. Undefined where none is kept. */
  readKept(): Promise<PolicyMaterial | undefined>;
  /** What was read was found good and is in force. */
  accepted(material: PolicyMaterial): Promise<void>;
  /** Whose change is a reason to read again. */
  readonly files: readonly string[];
}

export function openSource(settings: PolicySettings): PolicySource {
  const { bundle, data } = settings;
  if (isRemote(bundle)) return new ServerSource(settings);
  return {
    read: async () => ({ material: await readMaterial({ bundle, data }) }),
    readKept: async () => undefined,
    accepted: async () => undefined,
    files: data === undefined ? [bundle] : [bundle, data],
  };
}
