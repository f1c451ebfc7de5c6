/** What `policy impact` compares: two revisions by a git ref, a bundle's file or the working tree, and the store. */
import { createHash } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { storeLocation } from "../../../gateway/cli/store-location.ts";
import { loadConfig } from "../../../gateway/config.ts";
import { type Bundle, loadBundle } from "../../../gateway/policy/bundle.ts";
import { canonicalJson, checkData, mergeData, type PolicyData, parseDataFile } from "../../../gateway/policy/data.ts";
import type { StoreLocation } from "../../../gateway/store/read-only.ts";
import { policiesFolder } from "../sources.ts";
import { bundleOf, commitOf, pastData, withPoliciesOf } from "./policy-of-commit.ts";

export interface NamedBundle {
  /** "main (1a2b3c4d5e6f)", a file's name, or "working tree". */
  readonly name: string;
  readonly bundle: Bundle;
  readonly commit: string | undefined;
}

/** @param what a git ref or a bundle's file; the working tree when not given */
export async function resolveRevision(what: string | undefined, data: string | undefined): Promise<NamedBundle> {
  const load = (bundle: string) => loadBundle({ bundle, ...(data !== undefined && { data }) });
  if (what !== undefined && statSync(what, { throwIfNoEntry: false })?.isFile()) {
    return { name: what, bundle: await load(resolve(what)), commit: undefined };
  }
  const commit = what === undefined ? undefined : commitOf(what);
  const bytes = commit === undefined ? await bundleOf(policiesFolder) : await withPoliciesOf(commit, bundleOf);
  const work = mkdtempSync(join(tmpdir(), "sallyport-bundle-"));
  try {
    writeFileSync(join(work, "bundle.tar.gz"), bytes);
    const bundle = await load(join(work, "bundle.tar.gz"));
    return { name: commit === undefined ? "working tree" : `${what} (${commit.slice(0, 12)})`, bundle, commit };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

const sha256 = (text: string) => `sha256:${createHash("sha256").update(text).digest("hex")}`;

/** Data by the digest that recordings name: of the sources alone, and with each deployment's data over them. */
export async function pastDataWith(
  commits: readonly string[],
  dataFiles: readonly (string | undefined)[],
): Promise<Record<string, PolicyData>> {
  const found = await pastData(commits.length > 0 ? commits : ["HEAD"]).catch(() => new Map<string, PolicyData>());
  const all: Record<string, PolicyData> = Object.fromEntries(found);
  for (const file of new Set(dataFiles.filter((one) => one !== undefined))) {
    const { data: deployment, lineOf } = parseDataFile(readFileSync(file, "utf8"), file);
    const digestOfData = sha256(canonicalJson(deployment));
    for (const [digest, data] of found) {
      // As `loadBundle` names a revision with a deployment's data.
      all[sha256(`${digest}\n${digestOfData}`)] = checkData(mergeData(data, deployment), file, lineOf);
    }
  }
  return all;
}

export interface Where {
  readonly store: StoreLocation;
  readonly data: string | undefined;
}

/** @throws Error where neither names a store */
export function resolveStore(given: {
  readonly store?: string | undefined;
  readonly config?: string | undefined;
  readonly data?: string | undefined;
}): Where {
  const { signingKey: _, ...store } = storeLocation(storeOf(given));
  const data = given.data ?? (given.config === undefined ? undefined : loadConfig(given.config).policies.data);
  return { store, data };
}

function storeOf({ store, config }: { readonly store?: string | undefined; readonly config?: string | undefined }) {
  const named = store ?? config;
  if (named === undefined) throw new Error("name the store: --store <file or url>, or --config gateway.yaml");
  return named;
}
