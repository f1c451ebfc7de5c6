/** Compiles a policy's sources into a bundle for the gateway of `dev`. */
import { statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseBundle } from "../../gateway/policy/bundle.ts";
import { readMaterial } from "../../gateway/policy/material.ts";
import { buildBundle } from "../policy/build.ts";
import { policySources } from "../policy/sources.ts";

export type Compiled =
  | { readonly ok: true; readonly digest: string; readonly tookMs: number }
  | { readonly ok: false; readonly message: string };

/**
 * @param data the deployment's, which the gateway merges over the bundle's
 * @returns the digest by which the gateway will name it, or what the compiler says
 */
export async function compile(sources: string, bundle: string, data: string | undefined): Promise<Compiled> {
  const startedMs = performance.now();
  try {
    writeFileSync(bundle, buildBundle(sources));
    const tookMs = performance.now() - startedMs;
    const { revision } = parseBundle(await readMaterial({ bundle, data }));
    return { ok: true, digest: revision.digest, tookMs };
  } catch (error) {
    // The compiler's command line comes first where it is one of its errors.
    return { ok: false, message: (error as Error).message.replace(/^\S*opa (build|deps) .*\n/, "").trim() };
  }
}

/** Milliseconds since the epoch: when a source was saved last. */
export function savedAt(sources: string): number {
  return Math.max(...policySources(sources).map((name) => statSync(join(sources, name)).mtimeMs));
}
