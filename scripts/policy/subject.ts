/** Who does what on which target with which names: what `explain` takes from its options and a fixture from its YAML. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { z } from "zod";
import { type Bundle, loadBundle } from "../../gateway/policy/bundle.ts";
import { checkData, mergeData } from "../../gateway/policy/data.ts";
import type { IdentityInput } from "../../gateway/policy/input.ts";
import { Policy } from "../../gateway/policy/policy.ts";
import type { CatalogSnapshot } from "../../gateway/postgres/sql/catalog.ts";
import { buildBundle, defaultBundle } from "./build.ts";
import { SqlCatalog } from "./catalog/from-sql.ts";
import { builtInFile, readSnapshot } from "./catalog/snapshot-file.ts";
import { policiesFolder, sourceRevision } from "./sources.ts";

export const identitySchema = z.strictObject({
  email: z.string().default(""),
  subject: z.string().optional(),
  issuer: z.string().default("https://idp.example"),
  groups: z.array(z.string()).default([]),
  kind: z.enum(["human", "agent"]).default("human"),
  claims: z.record(z.string(), z.unknown()).default({}),
});

export function identityOf(given: z.infer<typeof identitySchema>): IdentityInput {
  return { ...given, subject: given.subject ?? (given.email || "someone") };
}

const root = resolve(import.meta.dir, "../..");
const named: Readonly<Record<string, string>> = { demo: join(root, "fixtures/demo/schema.sql") };

/** @param catalog a name, a path to DDL (.sql) or to a snapshot (.json), or DDL itself. @throws Error that names it */
export function catalogOf(catalog: string, folder: string): SqlCatalog {
  if (/\bcreate\b/i.test(catalog)) return fromDdl(catalog, "inline catalog");
  const path = named[catalog] ?? resolve(folder, catalog);
  if (!existsSync(path)) throw new Error(`no catalog "${catalog}": give demo, a .sql or .json file, or DDL`);
  if (path.endsWith(".json")) return new SqlCatalog(readSnapshot(path));
  return fromDdl(readFileSync(path, "utf8"), path);
}

let builtIn: CatalogSnapshot | undefined;

function fromDdl(sql: string, where: string): SqlCatalog {
  builtIn ??= readSnapshot(builtInFile);
  const made = new SqlCatalog(builtIn);
  try {
    made.apply(sql);
  } catch (error) {
    throw new Error(`${where}: ${(error as Error).message}`);
  }
  return made;
}

export interface PolicyFiles {
  readonly bundle?: string | undefined;
  readonly data?: string | undefined;
}

/** The bundle that is named, else the committed one where it is what the sources say, else one that is built of them. */
export async function loadPolicy(files: PolicyFiles, over: Record<string, unknown> = {}): Promise<Policy> {
  const { bundle } = await loadSources(files);
  return new Policy({ ...bundle, data: checkData(mergeData(bundle.data, over as never), "data") });
}

/** As `loadPolicy`, and whether the sources had to be compiled for it. */
export async function loadSources(files: PolicyFiles): Promise<{ bundle: Bundle; compiled: boolean }> {
  const from = (bundle: string) => loadBundle({ bundle, ...(files.data !== undefined && { data: files.data }) });
  if (files.bundle !== undefined) return { bundle: await from(files.bundle), compiled: false };
  const committed = await loadBundle({ bundle: defaultBundle }).catch(() => undefined);
  if (committed?.revision.digest === sourceRevision(policiesFolder)) {
    return { bundle: await from(defaultBundle), compiled: false };
  }
  const work = mkdtempSync(join(tmpdir(), "sallyport-bundle-"));
  try {
    writeFileSync(join(work, "bundle.tar.gz"), buildBundle(policiesFolder));
    return { bundle: await from(join(work, "bundle.tar.gz")), compiled: true };
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}
