/**
 * What a policy is made of, as it was accepted: bytes and text only, so that it can be posted to another thread or
 * process, which then builds the very same policy from it (`Policy.from`).
 */
import { readFile, stat } from "node:fs/promises";
import { GatewayError } from "../errors.ts";
import { limits } from "../limits.ts";
import { findCommit } from "./commit.ts";

export interface PolicyMaterial {
  /** The archive, as it was read. */
  readonly bundle: Uint8Array;
  /** Where it is from, for people: a path, or an address without its query. */
  readonly source: string;
  /** The deployment's data.yaml. */
  readonly data?: { readonly text: string; readonly name: string };
  /** The git commit found beside the bundle; one that its manifest states comes first. */
  readonly commit?: string;
}

export interface BundleFiles {
  /** A path to bundle.tar.gz. */
  readonly bundle: string;
  /** A path to the deployment's data.yaml. */
  readonly data?: string | undefined;
}

export async function readBounded(path: string, what = "policy bundle"): Promise<Uint8Array> {
  const invalid = (message: string, cause?: unknown) =>
    new GatewayError("policy.bundle_invalid", `${what}: ${path} ${message}`, { cause });
  try {
    if ((await stat(path)).size > limits.bundleBytesMax) throw invalid(`exceeds ${limits.bundleBytesMax} bytes`);
    const content = await readFile(path);
    if (content.byteLength > limits.bundleBytesMax) throw invalid(`exceeds ${limits.bundleBytesMax} bytes`);
    return content;
  } catch (cause) {
    if (cause instanceof GatewayError) throw cause;
    throw invalid(`cannot be read: ${(cause as Error).message}`, cause);
  }
}

/** Nothing when the deployment has no data of its own. Throws `policy.bundle_invalid`. */
export async function readDeploymentData(path: string | undefined): Promise<Pick<PolicyMaterial, "data">> {
  if (path === undefined) return {};
  return { data: { text: new TextDecoder().decode(await readBounded(path, "policy data")), name: path } };
}

/** Throws `policy.bundle_invalid`. */
export async function readMaterial(from: BundleFiles): Promise<PolicyMaterial> {
  const [bundle, data, commit] = await Promise.all([
    readBounded(from.bundle),
    readDeploymentData(from.data),
    findCommit(from.bundle),
  ]);
  return { bundle, source: from.bundle, ...data, ...(commit !== undefined && { commit }) };
}

export function sameMaterial(a: PolicyMaterial, b: PolicyMaterial): boolean {
  return Buffer.compare(a.bundle, b.bundle) === 0 && a.data?.text === b.data?.text && a.commit === b.commit;
}
