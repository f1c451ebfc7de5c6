/**
 * Loads a policy bundle (`opa build -t wasm`): its module, its data with the deployment's merged over, what its
 * manifest says of the inputs it can see, and the revision by which every verdict names it.
 */
import { createHash } from "node:crypto";
import { z } from "zod";
import { GatewayError } from "../errors.ts";
import { readArchive } from "./archive.ts";
import { commitForm } from "./commit.ts";
import { canonicalJson, checkData, mergeData, type PolicyData, parseDataFile } from "./data.ts";
import type { Revision } from "./decision.ts";
import { type BundleFiles, type PolicyMaterial, readMaterial } from "./material.ts";
import { parseVisiblePaths, type VisiblePaths } from "./visible-paths.ts";

export const entrypoints = { session: "sallyport/session", command: "sallyport/command" } as const;
/** A bundle need not have it. */
export const preparedEntrypoint = "sallyport/prepared/document";

export interface Bundle {
  readonly wasm: Uint8Array;
  readonly data: PolicyData;
  readonly revision: Revision;
  /** sha256:<hex> of the bundle's file and the deployment's data: equal means nothing changed. */
  readonly contentDigest: string;
  /** What `sallyport/command` can see of its input, or undefined where nothing may be cached. */
  readonly commandPaths: VisiblePaths | undefined;
  /** Set: evaluated without anything prepared, as an engine does that knows nothing of it. */
  readonly unprepared?: true;
  readonly source: string;
}

const manifestSchema = z.looseObject({
  revision: z.string().optional(),
  wasm: z.array(z.looseObject({ entrypoint: z.string(), module: z.string() })).default([]),
  metadata: z
    .looseObject({
      sallyport: z
        .looseObject({
          input_paths: z.unknown().optional(),
          nondeterministic: z.boolean().optional(),
          commit: z.string().optional(),
        })
        .optional(),
    })
    .optional(),
});

const digestForm = /^sha256:[0-9a-f]{64}$/;

function sha256(content: Uint8Array | string): string {
  return `sha256:${createHash("sha256").update(content).digest("hex")}`;
}

function invalid(message: string, cause?: unknown): GatewayError {
  return new GatewayError("policy.bundle_invalid", `policy bundle: ${message}`, cause === undefined ? {} : { cause });
}

function parseJson(bytes: Uint8Array, name: string): unknown {
  try {
    return JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw invalid(`${name} is not JSON`, cause);
  }
}

type Manifest = z.infer<typeof manifestSchema>;

function readManifest(files: ReadonlyMap<string, Uint8Array>): Manifest {
  const bytes = files.get(".manifest");
  if (bytes === undefined) throw invalid("has no .manifest");
  const manifest = manifestSchema.safeParse(parseJson(bytes, ".manifest"));
  if (!manifest.success) throw invalid(".manifest has an unexpected shape", manifest.error);
  return manifest.data;
}

function findModule(files: ReadonlyMap<string, Uint8Array>, manifest: Manifest): Uint8Array {
  const modules = Object.values(entrypoints).map((entrypoint) => {
    const module = manifest.wasm.find((entry) => entry.entrypoint === entrypoint)?.module;
    if (module === undefined) throw invalid(`has no entrypoint ${entrypoint}`);
    return module.replace(/^\/+/, "");
  });
  const name = modules[0] ?? "";
  if (modules.some((module) => module !== name)) throw invalid("has its entrypoints in different modules");
  const wasm = files.get(name);
  if (wasm === undefined) throw invalid(`has no ${name}`);
  return wasm;
}

/** Throws `policy.bundle_invalid` with what is wrong; nothing is half loaded. */
export function parseBundle(material: PolicyMaterial): Bundle {
  const content = material.bundle;
  const files = readArchive(content);
  const manifest = readManifest(files);
  const wasm = findModule(files, manifest);
  const dataBytes = files.get("data.json");
  let data = checkData(dataBytes === undefined ? {} : parseJson(dataBytes, "data.json"), "data.json of the bundle");
  const metadata = manifest.metadata?.sallyport;
  let digest = manifest.revision && digestForm.test(manifest.revision) ? manifest.revision : sha256(content);
  let contentDigest = sha256(content);
  if (material.data !== undefined) {
    const { data: deployment, lineOf } = parseDataFile(material.data.text, material.data.name);
    data = checkData(mergeData(data, deployment), material.data.name, lineOf);
    const dataDigest = sha256(canonicalJson(deployment));
    digest = sha256(`${digest}\n${dataDigest}`);
    contentDigest = sha256(`${contentDigest}\n${dataDigest}`);
  }
  const stated = metadata?.commit;
  const commit = stated !== undefined && commitForm.test(stated) ? stated : material.commit;
  const paths = parseVisiblePaths(metadata?.input_paths, "command");
  return {
    wasm,
    data,
    revision: Object.freeze({ digest, ...(commit !== undefined && { commit }) }),
    contentDigest,
    commandPaths: metadata?.nondeterministic === false ? paths : undefined,
    source: material.source,
  };
}

/** Throws `policy.bundle_invalid`. */
export async function loadBundle(from: BundleFiles): Promise<Bundle> {
  return parseBundle(await readMaterial(from));
}
